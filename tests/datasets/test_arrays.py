"""Arrays of a file: pictures and points, their classes, and wrong ones."""

import ast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowdistill.datasets import value_range
from flowdistill.datasets.arrays import arrays
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.pipeline import make_batches
from flowdistill.flow.spec import DataSpec

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (30, 4, 6, 3), np.uint8)
FLOATS = RNG.uniform(-1, 1, (30, 4, 6)).astype(np.float64)
POINTS = 3 * RNG.standard_normal((30, 2)).astype(np.float16)
LABEL = np.arange(30) % 4


def npz(path, **members):
  np.savez(path / 'a.npz', **members)
  return {'path': str(path / 'a.npz')}


def npy(path, x0, label=None):
  np.save(path / 'x0.npy', x0)
  if label is None:
    return {'path': str(path / 'x0.npy')}
  np.save(path / 'label.npy', label)
  return {'path': str(path / 'x0.npy'), 'label': str(path / 'label.npy')}


@pytest.mark.parametrize('write', [npz, npy])
@pytest.mark.parametrize(
  ('x0', 'expected'),
  [
    (BYTES, to_unit(BYTES)),
    (FLOATS, FLOATS.astype(np.float32)[..., None]),
    (POINTS, POINTS.astype(np.float32)),
    (FLOATS.astype('>f4'), FLOATS.astype(np.float32)[..., None]),
    (np.asfortranarray(BYTES[..., 0]), to_unit(BYTES[..., :1])),
  ],
  ids=['bytes', 'floats', 'points', 'big-endian', 'by-column'],
)
def test_the_rows_are_those_of_the_file(tmp_path, write, x0, expected):
  source = arrays(**write(tmp_path, x0=x0, label=LABEL.astype(np.uint8)))
  assert source.spec == DataSpec.labelled(expected.shape[1:], 4)
  assert len(source) == 30
  batch = source[np.arange(30)]
  assert batch['x0'].dtype == np.float32
  np.testing.assert_array_equal(batch['x0'], expected)
  np.testing.assert_array_equal(batch['label'], LABEL)
  assert batch['label'].dtype == np.int32
  assert type(batch['x0']) is np.ndarray
  one = source[7]
  np.testing.assert_array_equal(one['x0'], expected[7])
  assert one['label'] == LABEL[7]


@pytest.mark.parametrize('write', [npz, npy])
def test_without_labels_there_are_no_classes(tmp_path, write):
  source = arrays(**write(tmp_path, x0=BYTES))
  assert source.spec.cond == source.conditions(np.arange(3)) == {}
  assert set(source[np.arange(3)]) == {'x0'}


def test_an_npy_stays_on_the_disk(tmp_path):
  source = arrays(**npy(tmp_path, BYTES))
  assert isinstance(source.x0, np.memmap)
  assert not source.x0.flags.writeable


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=st.lists(st.integers(0, 19), max_size=6), held=st.booleans())
def test_a_split_has_the_rows_of_its_places(tmp_path, index, held):
  path = tmp_path / 'held.txt'
  path.write_text('\n'.join(map(str, range(20, 30))))
  given_ = npz(tmp_path, x0=BYTES, label=LABEL)
  places = np.arange(20, 30) if held else np.arange(20)
  split = 'validation' if held else 'train'
  source = arrays(split=split, held_out=str(path), **given_)
  index = np.asarray(index, int) % len(places)
  batch = source[index]
  np.testing.assert_array_equal(batch['x0'], to_unit(BYTES[places[index]]))
  np.testing.assert_array_equal(batch['label'], LABEL[places[index]])
  (label,) = source.conditions(index).values()
  np.testing.assert_array_equal(label, LABEL[places[index]])


def test_the_hash_shares_out_the_rows(tmp_path):
  given_ = npz(tmp_path, x0=np.arange(30.0)[:, None])
  parts = [
    arrays(split=split, validation=0.3, **given_)[:]['x0'].ravel()
    for split in ('train', 'validation')
  ]
  assert sorted(np.concatenate(parts)) == list(range(30))
  assert len(parts[1]) > 0


def test_classes_are_counted_before_the_split(tmp_path):
  path = tmp_path / 'held.txt'
  path.write_text('3\n')  # the only one of class 3 among the first four
  given_ = npz(tmp_path, x0=BYTES[:4], label=LABEL[:4])
  train = arrays(split='train', held_out=str(path), **given_)
  assert train.spec.num_classes == 4


def test_a_file_that_changes_is_read_again(tmp_path):
  assert len(arrays(**npz(tmp_path, x0=BYTES))) == 30
  assert len(arrays(**npz(tmp_path, x0=BYTES[:7]))) == 7


def test_batches(tmp_path):
  source = arrays(**npy(tmp_path, BYTES))
  batches = make_batches(source, batch_size=10, seed=0)
  seen = np.concatenate([next(batches)['x0'] for _ in range(6)])
  counts = np.unique(seen.reshape(60, -1), axis=0, return_counts=True)[1]
  assert counts.tolist() == [2] * 30


NAN = FLOATS.copy()
NAN[29, 0, 0] = np.nan
ABOVE = FLOATS.copy()
ABOVE[29, 0, 0] = 1.01
WRONG = {
  'integers': (
    {'x0': BYTES.astype(int)},
    r'x0 = int64 \[30, 4, 6, 3\] must be u.*range = \(0, 255\)',
  ),
  'bools': ({'x0': BYTES > 9}, 'x0 = bool .* must be uint8 or float'),
  'one axis': ({'x0': BYTES[:, 0, 0, 0]}, r'x0 = uint8 \[30\] must be'),
  'five axes': ({'x0': BYTES[None]}, r'\[1, 30, 4, 6, 3\] must be \[n, h'),
  'nothing': ({'x0': BYTES[:0]}, r'\[0, 4, 6, 3\].*not empty'),
  'nan': ({'x0': NAN}, 'x0 must be finite everywhere'),
  'infinite': ({'x0': POINTS * np.inf}, 'x0 must be finite everywhere'),
  'range': (
    {'x0': ABOVE},
    r'to 1.01; images of floats must lie in \[-1, 1\]',
  ),
  'length': (
    {'x0': BYTES, 'label': LABEL[1:]},
    r'label = int64 \[29\] must be .*30',
  ),
  'real': (
    {'x0': BYTES, 'label': LABEL / 2},
    'label = float64 .* must be integers',
  ),
  'negative': (
    {'x0': BYTES, 'label': LABEL - 1},
    'label has values from -1 to 2; it must count from 0',
  ),
  'table': (
    {'x0': BYTES, 'label': LABEL[:, None]},
    r'int64 \[30, 1\] must',
  ),
}


@pytest.mark.parametrize('write', [npz, npy])
@pytest.mark.parametrize('what', WRONG)
def test_wrong_arrays_are_named(tmp_path, write, what, monkeypatch):
  monkeypatch.setattr(
    value_range, 'AT_ONCE', 100
  )  # so that there are many parts
  members, message = WRONG[what]
  given_ = write(tmp_path, **members)
  with pytest.raises(ValueError, match=message) as error:
    arrays(**given_)
  assert str(error.value).startswith(f'path = {given_["path"]!r}')


def test_wrong_files_are_named(tmp_path):
  objects = np.array([{}, []], object)
  np.save(tmp_path / 'o.npy', objects, allow_pickle=True)
  np.savez(tmp_path / 'o.npz', x0=objects)
  np.save(tmp_path / 'cut.npy', BYTES)
  data = (tmp_path / 'cut.npy').read_bytes()
  (tmp_path / 'cut.npy').write_bytes(data[:-1])
  (tmp_path / 'text.npz').write_text('none')
  (tmp_path / 'a.csv').write_text('1,2')
  (tmp_path / 'folder.npy').mkdir()
  np.savez(tmp_path / 'none.npz')
  for name, message in {
    'o.npy': 'is not an .npy file: .*bject',
    'o.npz': 'is not an .npz file: .*bject',
    'folder.npy': 'must be a file',
    'cut.npy': 'is not an .npy file',
    'text.npz': 'is not an .npz file',
    'none.npz': 'has no arrays',
    'a.csv': 'must end in .npz or .npy',
    'gone.npy': 'does not exist',
  }.items():
    with pytest.raises(ValueError, match=f'{name}.*{message}'):
      arrays(path=str(tmp_path / name))


def test_wrong_options_are_named(tmp_path):
  given_ = npz(tmp_path, x0=BYTES)
  for options, message in [
    ({'path': ''}, "path = '' must name an .npz or .npy file"),
    ({'label': 'no'}, "label = 'no' must be one of 'x0'"),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'split': 'validation', 'validation': 0.0}, 'of 30 examples is empty'),
  ]:
    with pytest.raises(ValueError, match=message):
      arrays(**{**given_, **options})


UNIT = RNG.uniform(0, 1, (30, 4, 6, 3))


@pytest.mark.parametrize(
  'x0',
  [
    UNIT,
    UNIT.astype(np.float32) - 0.5,
    (UNIT > 0.5).astype(np.uint8),
    (UNIT * 16).astype(np.uint8),
    np.zeros((30, 4, 6, 3), np.float32),
  ],
  ids=['unit', 'centred', 'binary', '16 levels', 'constant'],
)
@pytest.mark.parametrize('write', [npz, npy])
def test_a_range_that_is_half_used_must_be_stated(tmp_path, write, x0):
  given_ = write(tmp_path, x0=x0)
  with pytest.raises(ValueError, match='no more than half.*set range = ') as e:
    arrays(**given_)
  assert f'from {x0.min():g} to {x0.max():g}' in str(e.value)
  known = (0.0, 255.0) if x0.dtype == np.uint8 else (-1.0, 1.0)
  expected = to_unit(x0) if x0.dtype == np.uint8 else x0.astype(np.float32)
  source = arrays(**given_, range=known)
  np.testing.assert_array_equal(source[np.arange(30)]['x0'], expected)


@pytest.mark.parametrize(
  ('x0', 'scale'),
  [
    (UNIT, (0, 1)),
    (255 * UNIT, (0, 255)),
    (UNIT - 0.5, (-0.5, 0.5)),
    ((65535 * UNIT).astype(np.uint16), (0, 65535)),
    ((255 * UNIT).astype(np.int64), (0, 255)),
    (UNIT > 0.5, (0, 1)),
    (UNIT[:, 0, 0], (0, 1)),
  ],
  ids=['unit', 'float 255', 'centred', 'uint16', 'int64', 'bool', 'points'],
)
def test_a_stated_range_is_scaled(tmp_path, x0, scale):
  low, high = scale
  expected = 2 * (x0.astype(np.float64) - low) / (high - low) - 1
  source = arrays(**npz(tmp_path, x0=x0), range=scale)
  found = source[np.arange(30)]['x0']
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=3e-7)


def test_bytes_are_read_up_to_the_first_that_need_the_range(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(value_range, 'AT_ONCE', 4 * 6 * 3)
  dark = np.zeros((30, 4, 6, 3), np.uint8)
  dark[29, 0, 0, 0] = 200
  assert len(arrays(**npz(tmp_path, x0=dark))) == 30


@pytest.mark.parametrize('write', [npz, npy])
def test_the_layout_may_be_that_of_pytorch(tmp_path, write):
  x0 = RNG.integers(0, 256, (30, 3, 8, 6), np.uint8)
  given_ = write(tmp_path, x0=x0)
  with pytest.raises(ValueError, match=r"\[30, 3, 8, 6\] .*layout = 'NCHW'"):
    arrays(**given_)
  source = arrays(**given_, layout='NCHW')
  assert source.spec.shape == (8, 6, 3)
  np.testing.assert_array_equal(
    source[5]['x0'], to_unit(x0[5].transpose(1, 2, 0))
  )
  assert arrays(**given_, layout='NHWC').spec.shape == (3, 8, 6)


@pytest.mark.parametrize(
  'x0',
  [BYTES.transpose(1, 2, 3, 0), BYTES[0]],
  ids=['height, width, channels, n', 'one picture'],
)
@pytest.mark.parametrize('write', [npz, npy])
def test_another_order_of_axes_is_named(tmp_path, write, x0):
  with pytest.raises(ValueError, match='x0 = uint8 .* looks like .*: save x0'):
    arrays(**write(tmp_path, x0=x0))


@pytest.mark.parametrize(
  ('x0', 'likely'),
  [
    (UNIT * 0.99, '(0, 1)'),
    (UNIT * 0.4 - 0.2, '(-0.5, 0.5)'),
    (UNIT > 2, None),
    ((UNIT * 200).astype(np.float32), '(0, 255)'),
    ((UNIT * 3000).astype(np.float32) + 1, '(0, 65535)'),
    (UNIT * 7 - 3, None),
    ((UNIT * 16).astype(np.uint8), '(0, 255)'),
    (FLOATS / FLOATS.max() * 1.000001, None),
  ],
)
def test_the_range_that_is_advised_works(tmp_path, x0, likely):
  given_ = npz(tmp_path, x0=x0)
  with pytest.raises(ValueError, match='range = ') as error:
    arrays(**given_)
  advised = str(error.value).split('range = ')[1].split(')')[0] + ')'
  if likely is not None:
    assert advised == likely
  arrays(**given_, range=ast.literal_eval(advised))


def test_a_range_far_from_zero_keeps_its_digits(tmp_path):
  given_ = npz(tmp_path, x0=UNIT + 1e9)
  found = arrays(**given_, range=(1e9, 1e9 + 1))[np.arange(30)]['x0']
  np.testing.assert_allclose(found, 2 * UNIT - 1, atol=1e-6)


@pytest.mark.parametrize(
  'scale',
  [(0, 1, 2), (1,), 3, ('a', 'b'), (0, 5e-324), (-1e308, 1e308), (0, np.inf)],
)
def test_a_range_is_two_numbers(tmp_path, scale):
  with pytest.raises(ValueError, match=r'^range = .* must be \(low, high\)'):
    arrays(**npz(tmp_path, x0=UNIT), range=scale)


@pytest.mark.parametrize('x0', [POINTS.astype(float), FLOATS])
def test_a_value_that_float32_has_not_is_refused(tmp_path, x0):
  with pytest.raises(ValueError, match='finite everywhere, as float32'):
    arrays(**npz(tmp_path, x0=x0 * 1e300))


@pytest.mark.parametrize(
  'name', ['Label', 'class_labels', 'y_train', 'a/y', 'Category', 'targets']
)
def test_a_name_like_that_of_labels_is_named(tmp_path, name):
  with pytest.raises(ValueError, match=f'set label = {name!r}'):
    arrays(**npz(tmp_path, x0=BYTES, **{name: LABEL}))
  other = npz(tmp_path, x0=BYTES, yaw=LABEL, gtx=LABEL, style=LABEL)
  assert arrays(**other).spec.num_classes == 0


def test_labels_may_have_another_name(tmp_path):
  given_ = npz(tmp_path, images=BYTES, labels=LABEL)
  with pytest.raises(ValueError, match="x0 = 'x0' must be one of 'images', 'l"):
    arrays(**given_)
  with pytest.raises(
    ValueError, match="no array 'label', but 'labels': set label"
  ):
    arrays(**given_, x0='images')
  assert arrays(**given_, x0='images', by_class=False).spec.num_classes == 0
  source = arrays(**given_, x0='images', label='labels')
  np.testing.assert_array_equal(source[:]['label'], LABEL)


def test_an_empty_class_must_be_meant(tmp_path):
  given_ = npz(tmp_path, x0=BYTES, label=np.arange(30) % 6 + 1)
  with pytest.raises(ValueError, match=r'1 to 6.*1 of the 7 .*\(0\): subtract'):
    arrays(**given_)
  assert arrays(**given_, classes=7).spec.num_classes == 7
  names = ('none', *'abcdef')
  assert arrays(**given_, classes=names).spec.classes == names
  for classes, message in [
    (2**31, 'must be at most 2147483647'),
    (2.5, 'must be a number, or their names'),
    ('abcdefg', 'must be a number, or their names'),
    ((*'abcdef', ''), 'none that is empty'),
    (6, 'classes = 6 must be at least 7'),
    (('a', 'b'), 'must be at least 7'),
    ((*'aabcdef',), 'each name once'),
  ]:
    with pytest.raises(ValueError, match=message):
      arrays(**given_, classes=classes)
  wide = npz(tmp_path, x0=BYTES, label=np.arange(30) * 1_000_000)
  with pytest.raises(
    ValueError, match=r'\(1, 2, 3, 4, 5, \.\.\.\): take .* set classes'
  ):
    arrays(**wide)


@pytest.mark.parametrize(
  ('label', 'advice'),
  [
    (np.eye(4)[LABEL], r'label.argmax\(1\)'),
    (LABEL > 1, r'label.astype\(int\)'),
    (LABEL.astype('f4'), r'label.astype\(int\)'),
    (LABEL[:, None], r'label\[:, 0\]'),
    (LABEL.astype(str), 'numpy.unique'),
  ],
)
def test_how_to_make_labels_is_said(tmp_path, label, advice):
  with pytest.raises(ValueError, match=advice):
    arrays(**npz(tmp_path, x0=BYTES, label=label))


def test_wrong_combinations_are_named(tmp_path):
  packed, single = npz(tmp_path, x0=BYTES), npy(tmp_path, BYTES)
  points = npz(tmp_path / '..', x0=POINTS)
  for options, message in [
    ({**packed, 'range': (1.0, 0.0)}, 'must be .low, high., finite'),
    ({**packed, 'range': (0.0, float('nan'))}, 'must be .low, high., finite'),
    ({**packed, 'range': (0.0, 1.0)}, r'to \d+, which must lie in \[0, 1\]'),
    ({**packed, 'layout': 'CHW'}, "layout = 'CHW' must be one of NHWC, NCHW"),
    ({**points, 'layout': 'NCHW'}, "layout = 'NCHW' has no effect"),
    ({**packed, 'classes': 3}, 'classes = 3 needs labels'),
    ({**single, 'x0': 'a'}, "x0 = 'a' has no effect: an .npy has no names"),
    ({**packed, 'label': 'a', 'by_class': False}, 'needs by_class = True'),
  ]:
    with pytest.raises(ValueError, match=message):
      arrays(**options)
