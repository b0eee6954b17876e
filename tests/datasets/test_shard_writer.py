"""What is written as shards is read back equal, to the same bytes each time."""

import dataclasses

import numpy as np
import PIL.Image
import pytest
from datasets.tiny_shards import colour

from flowdistill.datasets.images import to_unit
from flowdistill.datasets.index_files import index_path
from flowdistill.datasets.parquet import parquet
from flowdistill.datasets.shard_writer import write_shards
from flowdistill.datasets.source import Source
from flowdistill.datasets.webdataset import webdataset
from flowdistill.flow.spec import DataSpec

READERS = {'webdataset': webdataset, 'parquet': parquet}
CAPTIONS = [
  '',
  'red',
  'a\nb',
  '👩‍🚒 شكرا',
  'x' * 10_000,
  "it's {'caption': 1}",
  'z',
]


@dataclasses.dataclass(frozen=True, eq=False)
class Told(Source):
  """Noise with captions."""

  captions: tuple = tuple(CAPTIONS)


def told(channels=3, size=9):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (7, size, size, channels), np.uint8)
  return Told(DataSpec((size, size, channels)), {'x0': to_unit(pixels)})


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('kind', READERS)
def test_pictures_and_captions_come_back_equal(tmp_path, kind, channels):
  source = told(channels)
  paths = write_shards(source, tmp_path, kind=kind, per_shard=3)
  assert [path.name.split('.')[0] for path in paths] == [
    '000000',
    '000001',
    '000002',
  ]
  found = READERS[kind](path=str(tmp_path), size=9, channels=channels)
  assert (len(found), found.spec) == (7, source.spec)
  assert [*found.captions] == CAPTIONS
  np.testing.assert_array_equal(found[np.arange(7)]['x0'], source.arrays['x0'])


@pytest.mark.parametrize('kind', READERS)
def test_the_bytes_are_the_same_after_an_interruption(tmp_path, kind):
  folders = [tmp_path / name for name in 'ab']
  for folder in folders:
    folder.mkdir()
    paths = write_shards(told(), folder, kind=kind, per_shard=2)
  before = paths[2].stat().st_mtime_ns
  paths[1].unlink()
  index_path(str(paths[3])).unlink(missing_ok=True)
  write_shards(told(), folders[1], kind=kind, per_shard=2)
  assert paths[2].stat().st_mtime_ns == before
  names = [
    sorted(f.name for f in folder.iterdir() if f.suffix != '.npz')
    for folder in folders
  ]
  assert names[0] == names[1] and len(names[0]) == 4
  for name in names[0]:
    first, second = ((folder / name).read_bytes() for folder in folders)
    assert first == second
  assert [*READERS[kind](path=str(folders[1]), size=9).captions] == CAPTIONS


def test_a_shard_that_fails_is_not_there(tmp_path):
  source = told()
  broken = dataclasses.replace(source, captions=(*CAPTIONS[:4], 7, 8, 9))
  with pytest.raises(AttributeError):
    write_shards(broken, tmp_path, kind='webdataset', per_shard=3)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    '000000.tar',
    '000000.tar.index.npz',
  ]


class Blank:
  """No pictures."""

  captions = ('',)

  def __init__(self, shape):
    self.spec = DataSpec(shape)

  def __getitem__(self, index):
    raise AssertionError

  def __len__(self):
    return 1


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    (Blank((2,)), r'its examples \[2\] must be pictures'),
    (Blank((8, 8, 4)), r'must be pictures \[h, w, 1 or 3\]'),
    (
      Source(DataSpec((1,)), {'x0': np.zeros((1, 1), np.float32)}),
      'no captions',
    ),
    (object(), 'is a stream'),
  ],
)
def test_what_cannot_be_written_is_refused(tmp_path, source, message):
  with pytest.raises(ValueError, match=message):
    write_shards(source, tmp_path, kind='webdataset', per_shard=3)
  assert [*tmp_path.iterdir()] == []


def test_the_colours_of_the_tiny_shards_differ():
  """So that a picture says its number."""
  assert len({colour(k) for k in range(128)}) == 128
  assert PIL.Image.new('RGB', (1, 1), colour(3)).getpixel((0, 0)) == colour(3)
