"""Damaged .npy and .npz files: read, or refused by name; nothing else."""

import contextlib
import time

import numpy as np
import pytest

from flowdistill.datasets.arrays import arrays

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (4, 2, 2, 3), np.uint8)
FLOATS = RNG.uniform(-1, 1, (4, 2, 2, 3)).astype('>f4')
LABEL = np.arange(4)


def damaged(data, rng):
  """A few bytes are changed, and sometimes the end is cut off."""
  data = bytearray(data)
  for place in rng.integers(0, len(data), rng.integers(1, 6)):
    data[place] = rng.integers(0, 256)
  cut = rng.integers(1, len(data)) if rng.random() < 0.3 else len(data)
  return bytes(data[:cut])


@contextlib.contextmanager
def refusal_names(path):
  """A ValueError that names the file is as good as none."""
  try:
    yield
  except ValueError as error:
    if path.name not in str(error):
      raise AssertionError('it does not name the file') from error


def fuzz(folder, count, seconds):
  np.savez(folder / 'a.npz', x0=BYTES, label=LABEL)
  np.savez_compressed(folder / 'b.npz', x0=BYTES, label=LABEL)
  np.save(folder / 'c.npy', BYTES)
  np.save(folder / 'd.npy', FLOATS)
  whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
  rng, end = np.random.default_rng(0), time.monotonic() + seconds
  for _ in range(count):
    for path, data in whole.items():
      path.write_bytes(damaged(data, rng))
      with refusal_names(path):
        arrays(path=str(path))[0]
      assert time.monotonic() < end


def test_damaged_arrays_are_refused_by_name(tmp_path):
  fuzz(tmp_path, 80, 60)


def test_a_header_that_is_not_closed_is_refused_by_name(tmp_path):
  path = tmp_path / 'a.npy'
  np.save(path, BYTES)
  path.write_bytes(path.read_bytes().replace(b'}', b' ', 1))
  with pytest.raises(ValueError, match=r'a\.npy is not an \.npy file'):
    arrays(path=str(path))


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:invalid escape:DeprecationWarning')
def test_many_damaged_arrays_are_refused_by_name(tmp_path):
  fuzz(tmp_path, 2500, 300)


@pytest.mark.parametrize(
  ('x0', 'likely'),
  [
    (np.clip(FLOATS, 0, 0.9), r'range = \(0, 1\)'),
    (np.ones_like(FLOATS), r'range = \(0, 1\)'),
    (FLOATS / 3, r'range = \(-0.5, 0.5\)'),
    (FLOATS * 90 + 100, r'range = \(0, 255\)'),
    (BYTES.astype(np.uint16) * 200, r'range = \(0, 65535\)'),
    (FLOATS.astype(np.float64) * 1e300, 'too large for float32'),
  ],
)
def test_the_likely_range_is_named(tmp_path, x0, likely):
  np.save(tmp_path / 'a.npy', x0)
  with pytest.raises(ValueError, match=likely):
    arrays(path=str(tmp_path / 'a.npy'))
