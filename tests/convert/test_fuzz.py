"""Damaged files of weights: arrays, or a ValueError that names the file.

The seed is fixed. The short form runs in this process; the slow one in a child
whose memory is limited, with a time limit.
"""

import io
import json
import pathlib
import pickletools
import random
import resource
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from flowdistill.convert.arrays import read_chosen

NUMBERS = np.arange(12, dtype=np.float32).tobytes()
MEMORY, SECONDS = 4 * 2**30, 5  # of the child, and for one file
INTERESTING = [
  b'\xff' * 8,
  b'\x7f' + b'\xff' * 7,
  bytes(8),
  b'\x00\x00\x00\x80',
]
OPCODES = [each.code.encode('latin1') for each in pickletools.opcodes]
WORDS = [
  b'ctorch\nFloatStorage\n',
  b'ctorch._utils\n_rebuild_tensor_v2\n',
  b'ctorch._utils\n_rebuild_tensor_v3\n',
  b'ctorch._utils\n_rebuild_parameter\n',
  b'ccollections\nOrderedDict\n',
  b'cos\nsystem\n',
  b'ctorch.storage\n_load_from_bytes\n',
  b'ctorch_utils.persistence\n_reconstruct_persistent_obj\n',
  b'X\x07\x00\x00\x00storage',
  b'X\x01\x00\x00\x000',
  b'K\x0c',
  b'K\x02\x85K\x01\x85',
]


def tensor(*, view=False):
  """The opcodes of a tensor [3, 4] in storage '0'."""
  part = b'(X\x01\x00\x00\x007K\x00K\x0ct' if view else b''
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage'
    b'ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0c'
    + part
    + b'tQK\x00K\x03K\x04\x86K\x04K\x01\x86\x89'
    b'ccollections\nOrderedDict\n)RtR'
  )


def pickled(**options):
  return b'\x80\x02}X\x01\x00\x00\x00a' + tensor(**options) + b's.'


def torch_zip(data):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('x/data.pkl', data)
    archive.writestr('x/data/0', NUMBERS)
  return file.getvalue()


def torch_legacy(data):
  magic = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.'
  system = b'\x80\x02}X\r\x00\x00\x00little_endian\x88s.'
  keys = b'\x80\x02]X\x01\x00\x00\x000a.'
  return magic + system + data + keys + struct.pack('<q', 12) + NUMBERS


def snapshot():
  """A module whose parameter [3, 4] has its storage inside the pickle."""
  storage = torch_legacy(
    b'\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n'
    b'X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0cNtQ.'
  )
  size = struct.pack('<I', len(storage))
  loaded = b'ctorch.storage\n_load_from_bytes\nB' + size + storage + b'\x85R'
  array = b'ctorch._utils\n_rebuild_tensor_v2\n(' + loaded
  array += b'K\x00K\x03K\x04\x86K\x04K\x01\x86\x89NtR'
  state = b'}X\x0b\x00\x00\x00_parameters}X\x01\x00\x00\x00a' + array + b'ss'
  named = b'ctorch_utils.persistence\n_reconstruct_persistent_obj\n'
  meta = b'}X\x05\x00\x00\x00state' + state + b's'
  return b'\x80\x04' + named + meta + b'\x85R.'


def safetensors():
  entry = {'dtype': 'F32', 'shape': [3, 4], 'data_offsets': [0, 48]}
  header = json.dumps({'a': entry, '__metadata__': {'b': 'c'}}).encode()
  return struct.pack('<Q', len(header)) + header + NUMBERS


def npz(save):
  file = io.BytesIO()
  save(file, a=np.frombuffer(NUMBERS, np.float32).reshape(3, 4))
  return file.getvalue()


def seeds():
  """Name -> a file that is whole."""
  return {
    'zip.pth': torch_zip(pickled()),
    'legacy.pth': torch_legacy(pickled(view=True)),
    'x.pkl': snapshot(),
    'x.safetensors': safetensors(),
    'x.npz': npz(np.savez),
    'small.npz': npz(np.savez_compressed),
  }


def damaged(data, rng):
  """A file with a few bytes flipped, cut, copied, removed or made large."""
  whole = bytearray(data)
  for _ in range(rng.randint(1, 4)):
    at = rng.randrange(len(whole) + 1)
    match rng.randrange(6):
      case 0:
        whole[at : at + 1] = bytes([rng.randrange(256)])
      case 1:
        del whole[at:]
      case 2:
        del whole[at : at + rng.randint(1, 9)]
      case 3:
        other = rng.randrange(len(whole) + 1)
        whole[at:at] = whole[other : other + rng.randint(1, 40)]
      case 4:
        large = rng.choice(INTERESTING)
        whole[at : at + len(large)] = large
      case 5:
        whole[at:at] = rng.choice(OPCODES + WORDS)
  return bytes(whole)


def program(rng):
  """A pickle of random opcodes, most of which do something."""
  parts = []
  for _ in range(rng.randint(1, 60)):
    parts.append(rng.choice([*OPCODES, *WORDS * 3, tensor(), b'(', b'}', b')']))
    if rng.random() < 0.2:
      parts.append(rng.randbytes(rng.randint(1, 8)))
  return b'\x80\x02' + b''.join(parts) + b'.'


def files(rng, count):
  """Yields (name, bytes) of damaged files."""
  whole = seeds()
  for i in range(count):
    name = rng.choice([*whole])
    if i % 3 or not name.endswith('.pth'):
      yield name, damaged(whole[name], rng)
    elif name == 'zip.pth':
      # Damage in the pickle alone, which its checksum would hide.
      yield name, torch_zip(rng.choice([program, poked])(rng))
    else:
      yield name, torch_legacy(rng.choice([program, poked])(rng))


def poked(rng):
  return damaged(pickled(), rng)


def fuzz(folder, seed, count):
  """Reads damaged files; returns how many were read, and how many refused."""
  rng, read, refused = random.Random(seed), 0, 0
  for name, data in files(rng, count):
    path = folder / name
    path.write_bytes(data)
    before, message = time.process_time(), str(path)
    try:
      arrays = read_chosen(path, lambda names: names)
      read += all(
        np.isfinite(x.astype(np.float32)).all() for x in arrays.values()
      )
    except ValueError as error:
      message, refused = str(error), refused + 1
    assert str(path) in message, (name, data)
    assert len(message) < 2000, (name, data)
    assert time.process_time() - before < SECONDS, (name, data)
  assert read + refused == count
  return read, refused


def test_whole_files_are_read(tmp_path):
  for name, data in seeds().items():
    (tmp_path / name).write_bytes(data)
    found = read_chosen(tmp_path / name, lambda names: names)
    np.testing.assert_array_equal(found['a'], np.arange(12).reshape(3, 4))


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_damaged_files_are_read_or_refused(tmp_path):
  read, refused = fuzz(tmp_path, 0, 600)
  assert read > 10
  assert refused > 300


@pytest.mark.slow
def test_many_damaged_files_in_little_memory(tmp_path):
  limited = [sys.executable, __file__, str(tmp_path), '20000']
  done = subprocess.run(
    limited, timeout=600, stderr=subprocess.PIPE, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-3000:]


if __name__ == '__main__':
  resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  fuzz(pathlib.Path(sys.argv[1]), 1, int(sys.argv[2]))
