"""Files of arrays: both kinds say the same, and neither can carry code."""

import io
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from flowdistill.convert.arrays import read_arrays

ARRAYS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b.c': np.ones(2, np.float16),
}


class Touches:
  """What unpickles it makes a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def write(path):
  if path.suffix == '.npz':
    np.savez(path, **ARRAYS)
  else:
    save_file(ARRAYS, path)
  return path


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_the_arrays_that_are_asked_for(tmp_path, name):
  found = read_arrays(write(tmp_path / name), ['a', 'b.c', 'd'])
  assert set(found) == set(ARRAYS)
  for key, array in found.items():
    np.testing.assert_array_equal(array, ARRAYS[key])
    assert array.dtype == ARRAYS[key].dtype
  assert set(read_arrays(tmp_path / name, ['b.c'])) == {'b.c'}


@pytest.mark.parametrize('name', ['x.pkl', 'x.bin', 'x', 'stage:flow'])
def test_other_kinds_of_files_are_not_opened(tmp_path, name):
  (tmp_path / name).write_bytes(pickle.dumps(Touches(tmp_path / 'harm')))
  with pytest.raises(ValueError, match=r'must be a file of one of the kinds'):
    read_arrays(tmp_path / name, ['a'])
  assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_a_pickle_under_another_name_is_not_run(tmp_path, name):
  (tmp_path / name).write_bytes(pickle.dumps(Touches(tmp_path / 'harm')))
  with pytest.raises(ValueError, match=rf'x\{pathlib.Path(name).suffix} is no'):
    read_arrays(tmp_path / name, ['a'])
  assert not (tmp_path / 'harm').exists()


def test_a_pickle_inside_is_not_run(tmp_path):
  inside = np.array([Touches(tmp_path / 'harm')], object)
  np.savez(tmp_path / 'x.npz', a=inside)
  with pytest.raises(ValueError, match='allow_pickle=False'):
    read_arrays(tmp_path / 'x.npz', ['a'])
  assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_a_file_that_is_missing_or_cut_short(tmp_path, name):
  with pytest.raises(ValueError, match=f'there is no file .*{name}'):
    read_arrays(tmp_path / name, ['a'])
  whole = write(tmp_path / name).read_bytes()
  (tmp_path / name).write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=f'{name} is no'):
    read_arrays(tmp_path / name, ['a'])


def safetensors(header, length=None, body=bytes(8)):
  """The bytes of a file whose header says what it likes."""
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  size = len(text) if length is None else length
  return size.to_bytes(8, 'little') + text + body


def npz(shape=(2,), descr='<f4', member=None, body=bytes(8)):
  """The same for the header of the array in a .npz file."""
  header = {'descr': descr, 'fortran_order': False, 'shape': shape}
  text = repr(header).encode().ljust(117) + b'\n'
  size = len(text).to_bytes(2, 'little')
  whole = b'\x93NUMPY\x01\x00' + size + text + body
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('a.npy', whole if member is None else member)
  return file.getvalue()


A = {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}
HOSTILE = {
  'x.safetensors': [
    b'',
    safetensors({'a': A}, length=2**63 - 1),
    safetensors({'a': A}, length=10**9),
    safetensors(b'{"a":'),
    safetensors({'a': {**A, 'shape': [4], 'data_offsets': [0, 16]}}),
    safetensors({'a': {**A, 'shape': [10**15]}}),
    safetensors({'a': {**A, 'shape': [2**62, 8]}}),
    safetensors({'a': {**A, 'shape': [-2]}}),
    safetensors({'a': {**A, 'data_offsets': [8, 0]}}),
  ],
  'x.npz': [
    b'',
    npz(shape=(10**15,)),
    npz(shape=(-2,)),
    npz(shape=(3,)),
    npz(descr='|O'),
    npz(member=b'\x93NUMPY\x02\x00' + (2**31).to_bytes(4, 'little')),
    npz(member=b'no array'),
    npz(body=b'\x01' * 8).replace(b'\x01' * 8, b'\x02' * 8),
  ],
}


@pytest.mark.parametrize(
  ('name', 'data'), [(n, d) for n, data in HOSTILE.items() for d in data]
)
def test_what_a_header_claims_is_not_believed(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(ValueError, match=f'{name} is no'):
    read_arrays(tmp_path / name, ['a'])


@pytest.mark.parametrize(
  ('name', 'data'),
  [('x.safetensors', safetensors({'a': A})), ('x.npz', npz())],
)
def test_a_header_that_is_right_is(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  assert read_arrays(tmp_path / name, ['a'])['a'].shape == (2,)
