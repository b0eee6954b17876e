"""Damaged .npy and .npz files: read as arrays, or refused in one line."""

import io
import os
import random
import time
import zipfile

import numpy as np
import pytest

from flowdistill.datasets.arrays import arrays

RNG = np.random.default_rng(0)
X0 = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
LABEL = np.arange(6) % 3
SECONDS = 5.0  # for one file, on a machine at work
HEADERS = [
  b"'shape': (6, 4, 5, 3)",
  b"'shape': (-6, 4, 5, 3)",
  b"'shape': (99999999999999999999, 4)",
  b"'shape': (4294967296, 4294967296)",
  b"'shape': (5, 4, 5, 3)",
  b"'shape': ((((((((((((((",
  b"'descr': '|O'",
  b"'descr': '|V0'",
  b"'descr': 'u1,O'",
  b"'descr': [('a', '<f4')]",
  b"'descr': '>f8'",
  b'9' * 5000,
  b'\0\n"\'{[(\xff',
]


def npys():
  for x0 in (X0, np.asfortranarray(X0), X0.astype('>f4') / 255, LABEL):
    for version in ((1, 0), (2, 0), (3, 0)):
      file = io.BytesIO()
      np.lib.format.write_array(file, x0, version)
      yield file.getvalue()


def npzs():
  for save in (np.savez, np.savez_compressed):
    file = io.BytesIO()
    save(file, x0=X0, label=LABEL)
    yield file.getvalue()
  for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', packing) as archive:
      archive.writestr('x0.npy', next(npys()))
    yield file.getvalue()


def damaged(data, rng):
  """The bytes with up to four faults, most of them in a header."""
  data = bytearray(data)
  for _ in range(rng.choice([1, 1, 2, 4])):
    limit = rng.choice([12, 150, len(data)])
    at = rng.randrange(min(len(data), limit) or 1)
    at = len(data) - at if rng.random() < 0.3 else at
    kind = rng.randrange(5)
    if kind == 0:
      data[at : at + 1] = bytes([rng.randrange(256)])
    elif kind == 1:
      data[at : at + 4] = rng.choice([b'\xff' * 4, bytes(4), b'\1\0\0\x80'])
    elif kind == 2:
      del data[at:]
    elif kind == 3:
      text = rng.choice(HEADERS)
      data[at : at + len(text)] = text
    else:
      data[at:at] = data[: rng.randrange(64)]
  return bytes(data)


def repacked(data, rng):
  """An .npz of a damaged .npy, whose checksum is right."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('x0.npy', damaged(data, rng))
    if rng.random() < 0.5:
      archive.writestr('label.npy', damaged(data, rng))
  return file.getvalue()


def read_damaged(path, count, seed):
  rng, singles, packed, said = random.Random(seed), [*npys()], [*npzs()], []
  for k in range(count):
    ending = rng.choice(['npy', 'npz', 'again.npz'])
    data = rng.choice(packed if ending == 'npz' else singles)
    data = (repacked if 'again' in ending else damaged)(data, rng)
    file = path / f'x.{ending}'
    file.write_bytes(data)
    os.utime(file, ns=(k, k))
    start = time.perf_counter()
    try:
      source = arrays(path=str(file), range=rng.choice([None, (0, 255)]))
      x0 = source[np.arange(len(source))]['x0']
      assert x0.dtype == np.float32 and np.isfinite(x0).all()
    except ValueError as error:
      said.append((file.name, str(error)))
    assert time.perf_counter() - start < SECONDS
  assert count / 10 < len(said) < count
  assert [text for name, text in said if name not in text] == []
  assert [text for _, text in said if '\n' in text or len(text) > 1000] == []


@pytest.mark.filterwarnings('ignore')  # NumPy warns of damaged headers
@pytest.mark.parametrize(
  ('count', 'seed'), [(300, 0), pytest.param(20_000, 1, marks=pytest.mark.slow)]
)
def test_damaged_files_are_read_or_named(tmp_path, count, seed):
  read_damaged(tmp_path, count, seed)
