"""Shards: the bytes that were written, or an error that names the file."""

import subprocess

import numpy as np
import pytest

from flowdistill.datasets.shards import (
  is_whole,
  read_array,
  read_shard,
  write_shard,
)

RNG = np.random.default_rng(0)
X0 = RNG.normal(size=(7, 2, 3)).astype(np.float32)
LABEL = RNG.integers(0, 9, 7).astype(np.int32)


def parts(*ends):
  """The rows in parts that end at `ends`."""
  for start, end in zip((0, *ends), ends, strict=False):
    yield {'x0': X0[start:end], 'label': LABEL[start:end]}


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_read(tmp_path):
  write_shard(tmp_path, 3, 7, parts(3, 6, 7))
  rows = read_shard(tmp_path, 3)
  assert list(rows) == ['x0', 'label']
  np.testing.assert_array_equal(rows['x0'], X0)
  np.testing.assert_array_equal(rows['label'], LABEL)
  np.testing.assert_array_equal(read_array(tmp_path, 3, 'label'), LABEL)
  assert isinstance(rows['x0'], np.memmap)  # it stays on disk


def test_it_is_what_numpy_would_have_written(tmp_path):
  write_shard(tmp_path, 0, 7, parts(7))
  np.save(tmp_path / 'numpy.npy', X0)
  ours, theirs = tmp_path / '00000.x0.npy', tmp_path / 'numpy.npy'
  assert ours.read_bytes() == theirs.read_bytes()


def test_the_bytes_do_not_depend_on_the_parts(tmp_path):
  for name, ends in (('a', (7,)), ('b', (1, 5, 7))):
    (tmp_path / name).mkdir()
    write_shard(tmp_path / name, 0, 7, parts(*ends))
  assert contents(tmp_path / 'a') == contents(tmp_path / 'b')


def test_sha256sum_reads_its_list(tmp_path):
  write_shard(tmp_path, 0, 7, parts(7))
  done = subprocess.run(
    ['sha256sum', '--check', '00000.sha256'], cwd=tmp_path, check=False
  )
  assert done.returncode == 0


def test_one_that_was_interrupted_is_not_whole_and_is_written_again(tmp_path):
  def broken():
    yield from parts(3)
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_shard(tmp_path, 0, 7, broken())
  assert not is_whole(tmp_path, 0)
  with pytest.raises(ValueError, match=r'00000\.sha256 is missing'):
    read_shard(tmp_path, 0)
  write_shard(tmp_path, 0, 7, parts(3, 7))
  (tmp_path / 'other').mkdir()
  write_shard(tmp_path / 'other', 0, 7, parts(7))
  whole = contents(tmp_path / 'other')
  (tmp_path / 'other').rename(tmp_path.with_name('other'))
  assert contents(tmp_path) == whole


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda path: path.unlink(), r'00000\.x0\.npy is missing'),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), 'is damaged'),
    (lambda path: path.write_bytes(b'\x00' * 300), 'is damaged: its sha256'),
  ],
)
def test_a_file_that_is_not_what_was_written_is_named(
  tmp_path, damage, message
):
  write_shard(tmp_path, 0, 7, parts(7))
  damage(tmp_path / '00000.x0.npy')
  with pytest.raises(ValueError, match=message):
    read_shard(tmp_path, 0)


def test_a_list_cannot_name_files_elsewhere(tmp_path):
  outside = tmp_path.with_name('outside.x0.npy')
  np.save(outside, X0)
  (tmp_path / '00000.sha256').write_text(f'{"0" * 64}  ../{outside.name}\n')
  with pytest.raises(ValueError, match=r'00000\.sha256 is damaged'):
    read_shard(tmp_path, 0)


@pytest.mark.parametrize(
  'line', [b'\xff\xfe', b'', b'0' * 64, b'0' * 64 + b'  ../00000.x0.npy', b'x']
)
def test_a_damaged_list_is_named(line, tmp_path):
  write_shard(tmp_path, 0, 7, parts(7))
  (tmp_path / '00000.sha256').write_bytes(line + b'\n')
  with pytest.raises(ValueError, match=r'00000\.sha256 is damaged: it has the'):
    read_shard(tmp_path, 0)
