"""Data sets of TFDS: what is in them, by index, without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
from tiny_tfds import COUNTS, encoded, pixels

from flowdistill.datasets.images import RESIZES, decode, to_unit
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.records import tfds
from flowdistill.flow.spec import DataSpec

WHOLE = {'size': 6, 'resize': 'cut'}
OPEN = (
  'import sys\n'
  'from flowdistill.datasets.records import tfds\n'
  "source = tfds(builder='tiny_shapes', data_dir=sys.argv[1], size=4)\n"
  'assert len(source.conditions(range(9))["label"]) == 9\n'
  'assert source[[3, 1]]["x0"].shape == (2, 4, 4, 3)\n'
  'print(*sys.modules)'
)


@pytest.fixture
def opened(data_dir):
  def opened(builder='tiny_shapes', **options):
    return tfds(builder=builder, data_dir=data_dir, **options)

  return opened


def labels(source):
  return source.conditions(np.arange(len(source)))['label']


def middles(split):
  return [to_unit(pixels(split, k)[:, 1:7]) for k in range(COUNTS[split])]


def numbers(source, split):
  """Which example each of the source is; every one is found once."""
  whole = np.stack(middles(split))
  x0 = source[np.arange(len(source))]['x0']
  same = (x0[:, None] == whole).all(axis=(2, 3, 4))
  assert (same.sum(axis=1) == 1).all()
  return same.argmax(axis=1)


@pytest.mark.parametrize('split', COUNTS)
def test_every_example_of_a_split_with_its_class(opened, split):
  source = opened(examples=split, **WHOLE)
  assert source.spec == DataSpec.labelled(
    (6, 6, 3), 3, ['circle', 'square', 'star']
  )
  found = numbers(source, split)
  assert sorted(found) == list(range(COUNTS[split]))
  batch = source[np.arange(len(source))]
  np.testing.assert_array_equal(batch['label'], found % 3)
  np.testing.assert_array_equal(labels(source), batch['label'])
  assert batch['label'].dtype == labels(source).dtype == np.int32
  one = source[4]
  np.testing.assert_array_equal(one['x0'], batch['x0'][4])
  assert (one['label'], one['label'].dtype) == (batch['label'][4], np.int32)


def test_splits_in_the_words_of_tfds(opened):
  whole, first = opened(**WHOLE), opened(examples='train[:5]', **WHOLE)
  np.testing.assert_array_equal(
    numbers(first, 'train'), numbers(whole, 'train')[:5]
  )
  assert len(opened(examples='train+test', **WHOLE)) == 26


@pytest.mark.parametrize('resize', RESIZES)
@pytest.mark.parametrize('channels', [1, 3])
def test_a_picture_is_decoded_as_in_a_folder(opened, resize, channels):
  source = opened(size=4, resize=resize, channels=channels)
  place = int(numbers(opened(**WHOLE), 'train').argsort()[7])
  from_file = decode(file(7), 4, channels, RESIZES[resize])
  np.testing.assert_array_equal(source[place]['x0'], to_unit(from_file))


def file(k):
  return encoded(pixels('train', k)).read()


def test_without_classes(opened):
  source = opened(by_class=False, **WHOLE)
  assert source.spec.cond == source.conditions(np.arange(3)) == {}
  assert set(source[np.arange(3)]) == {'x0'}


def test_an_attribute_is_a_class(opened):
  source = opened('tiny_faces', label='attributes/happy', **WHOLE)
  assert source.spec.classes == ('False', 'True')
  np.testing.assert_array_equal(labels(source), numbers(source, 'train') % 2)
  assert set(labels(source)) == {0, 1}


def test_size_and_channels_are_those_of_the_data_set(opened):
  left = opened('tiny_pairs', image='left', label='form')
  right = opened('tiny_pairs', image='right', label='colour')
  assert (left.spec.shape, left.spec.num_classes) == ((8, 8, 1), 4)
  assert (right.spec.shape, right.spec.num_classes) == ((8, 8, 1), 5)
  every = np.arange(20)
  np.testing.assert_allclose(left[every]['x0'], -right[every]['x0'], atol=1e-6)
  np.testing.assert_array_equal(left[every]['label'], labels(left))


def test_splits_of_ours_share_out_theirs(opened, tmp_path):
  parts = [
    numbers(opened(split=split, validation=0.3, **WHOLE), 'train')
    for split in ('train', 'validation')
  ]
  assert sorted(np.concatenate(parts)) == list(range(20))
  listed = tmp_path / 'held.txt'
  listed.write_text('0\n17\n')
  held = opened(split='validation', held_out=str(listed), **WHOLE)
  whole = opened(**WHOLE)[[0, 17]]
  for name, array in held[np.arange(2)].items():
    np.testing.assert_array_equal(array, whole[name])
  np.testing.assert_array_equal(labels(held), whole['label'])


def test_a_broken_picture_is_left_out(opened):
  source = opened(max_broken=0.1, **WHOLE)
  whole = source[np.arange(20)]
  good = source.encoded.read
  source.encoded.read = lambda k: (b'none', {}) if k == 4 else good(k)
  found = source[np.arange(20)]
  place = np.where(np.arange(20) == 4, 5, np.arange(20))
  for name, array in found.items():
    np.testing.assert_array_equal(array, whole[name][place])
  assert list(source.broken) == ['tiny_shapes train 4']


def test_batches(opened):
  batches = make_batches(opened(**WHOLE), batch_size=8, seed=0)
  drawn = [next(batches) for _ in range(5)]  # two epochs
  seen = np.concatenate([batch['x0'] for batch in drawn]).reshape(40, -1)
  assert (np.unique(seen, axis=0, return_counts=True)[1] == 2).all()


def test_nothing_imports_tensorflow(data_dir):
  done = subprocess.run(
    [sys.executable, '-c', OPEN, data_dir], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  modules = set(done.stdout.split())
  assert 'tensorflow_datasets' in modules
  assert 'tensorflow' not in modules


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'builder': ''}, "builder = '' must name a TFDS data set"),
    (
      {'examples': 'dev'},
      "examples = 'dev' must be made of the splits .*train",
    ),
    ({'examples': 'train[:0]'}, r"examples = 'train\[:0\]' must be made of"),
    ({'image': 'number'}, "image = 'number' must be one of image"),
    ({'label': 'number'}, "label = 'number' must be one of label"),
    ({'label': 'label', 'by_class': False}, "label = 'label' needs by_class"),
    (
      {'builder': 'tiny_faces'},
      'must be one of attributes/happy, attr.*tall',
    ),
    ({'builder': 'tiny_pairs'}, 'image = None must be one of left, right'),
    ({'size': None}, 'size = None must be a number: pictures are 6 x 8'),
    ({'size': 0}, 'size = 0 must be at least 1'),
    ({'channels': 2}, 'channels = 2 must be 1 or 3'),
    ({'resize': 'box'}, "resize = 'box' must be one of centre_crop, adm"),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'validation': 2.0}, r'validation = 2.0 must lie in \[0, 1\]'),
    ({'split': 'train', 'validation': 1.0}, "'train' of 20 examples is empty"),
  ],
)
def test_wrong_options_are_named(opened, options, message):
  with pytest.raises(ValueError, match=message):
    opened(**{'size': 4, **options})


def test_a_record_is_read_once_for_its_label(opened, monkeypatch):
  source = opened(**WHOLE)
  seen, records = [], source.encoded.records

  class Counted:
    def __getitem__(self, k):
      seen.append(k)
      return records[k]

  monkeypatch.setattr(source.encoded, 'records', Counted())
  index = np.array([[3, 1], [3, 7]])
  label = source.conditions(index)['label']
  np.testing.assert_array_equal(
    label, numbers(opened(**WHOLE), 'train')[index] % 3
  )
  assert source.conditions(7)['label'] == label[1, 1]
  assert seen == [1, 3, 7]


def test_unknown_classes_are_refused(opened):
  source = opened('tiny_pairs', image='left', label='form', examples='test')
  with pytest.raises(ValueError, match='label -1 is not .*by_class = False'):
    source.conditions(np.array([0]))
  with pytest.raises(ValueError, match='6 pictures cannot be read'):
    source[0]
