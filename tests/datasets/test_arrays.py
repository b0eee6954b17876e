"""Arrays of a file: pictures and points, their classes, and wrong ones."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    r'x0 = int64 \[30, 4, 6, 3\] must be u',
  ),
  'bools': ({'x0': BYTES > 9}, 'x0 = bool .* must be uint8 or float'),
  'one axis': ({'x0': BYTES[:, 0, 0, 0]}, r'x0 = uint8 \[30\] must be'),
  'five axes': ({'x0': BYTES[None]}, r'\[1, 30, 4, 6, 3\] must be \[n, h'),
  'nothing': ({'x0': BYTES[:0]}, r'\[0, 4, 6, 3\].*not empty'),
  'nan': ({'x0': NAN}, 'x0 must be finite everywhere'),
  'infinite': ({'x0': POINTS * np.inf}, 'x0 must be finite everywhere'),
  'range': (
    {'x0': ABOVE},
    r'to 1.01; pictures of floats must lie in \[-1, 1\]',
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
  module = sys.modules[arrays.__module__]
  monkeypatch.setattr(module, 'AT_ONCE', 100)  # so that there are many parts
  members, message = WRONG[what]
  given_ = write(tmp_path, **members)
  with pytest.raises(ValueError, match=message) as error:
    arrays(**given_)
  assert str(error.value).startswith(f'path = {given_["path"]!r}')


def test_wrong_files_are_named(tmp_path):
  objects = np.array([{}, []], object)
  np.save(tmp_path / 'o.npy', objects, allow_pickle=True)
  np.savez(tmp_path / 'o.npz', x0=objects)
  np.savez(tmp_path / 'y.npz', y=BYTES)
  np.save(tmp_path / 'cut.npy', BYTES)
  data = (tmp_path / 'cut.npy').read_bytes()
  (tmp_path / 'cut.npy').write_bytes(data[:-1])
  (tmp_path / 'text.npz').write_text('none')
  (tmp_path / 'a.csv').write_text('1,2')
  for name, message in {
    'o.npy': 'is not an .npy file: .*bject',
    'o.npz': 'is not an .npz file: .*bject',
    'y.npz': 'must have an array x0 in it',
    'cut.npy': 'is not an .npy file',
    'text.npz': 'is not an .npz file',
    'a.csv': 'must end in .npz or .npy',
    'gone.npy': 'does not exist',
  }.items():
    with pytest.raises(ValueError, match=f'{name}.*{message}'):
      arrays(path=str(tmp_path / name))


def test_wrong_options_are_named(tmp_path):
  given_ = npz(tmp_path, x0=BYTES)
  for options, message in [
    ({'path': ''}, "path = '' must name an .npz or .npy file"),
    ({'label': str(tmp_path / 'no')}, 'label = .*no. does not exist'),
    ({'label': given_['path']}, 'label = .* must be None for an .npz'),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'split': 'validation', 'validation': 0.0}, 'of 30 examples is empty'),
  ]:
    with pytest.raises(ValueError, match=message):
      arrays(**{**given_, **options})
