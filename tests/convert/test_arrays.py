"""Files of arrays: both kinds say the same, and neither can carry code."""

import io
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from flowdistill.convert.arrays import read_chosen

ARRAYS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b.c': np.ones(2, np.float16),
}


def read_arrays(path, names):
  return read_chosen(path, lambda present: set(names) & set(present))


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


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_the_content_decides_whatever_the_name(tmp_path, name):
  other = write(tmp_path / name).rename(tmp_path / 'x.pth')
  assert set(read_arrays(other, ARRAYS)) == set(ARRAYS)


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors', 'x.pkl', 'x'])
def test_a_pickle_under_any_name_is_not_run(tmp_path, name):
  (tmp_path / name).write_bytes(pickle.dumps(Touches(tmp_path / 'harm')))
  with pytest.raises(ValueError, match='as a bare pickle: it names '):
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
  with pytest.raises(ValueError, match=f'{name} .* (cut short|too short)'):
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
    npz(descr='<f4', shape=(2,), member=b'')[:60],
    npz(shape=(10**15,)),
    npz(shape=(-2,)),
    npz(shape=(3,)),
    npz(shape=(1,)),  # its second number would be lost
    npz(shape='(' * 9000),
    npz(descr='|O'),
    npz(member=b'\x93NUMPY\x02\x00' + (2**31).to_bytes(4, 'little')),
    npz(member=b'no array'),
    npz(body=b'\x01' * 8).replace(b'\x01' * 8, b'\x02' * 8),
  ],
}


@pytest.mark.parametrize(
  ('name', 'data'),
  [
    pytest.param(name, data, id=f'{i}-{name}')  # a zip has the time in it
    for name, files in HOSTILE.items()
    for i, data in enumerate(files)
  ],
)
def test_what_a_header_claims_is_not_believed(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(
    ValueError, match=f'{name} (cannot be read as|is (empt|a z))'
  ):
    read_arrays(tmp_path / name, ['a'])


@pytest.mark.parametrize(
  ('name', 'data'),
  [('x.safetensors', safetensors({'a': A})), ('x.npz', npz())],
)
def test_a_header_that_is_right_is(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  assert read_arrays(tmp_path / name, ['a'])['a'].shape == (2,)


def typed(name, shape, data):
  entry = {'dtype': name, 'shape': shape, 'data_offsets': [0, len(data)]}
  return safetensors({'a': entry}, body=data)


@pytest.mark.parametrize(
  ('name', 'data', 'numbers'),
  [
    ('F64', np.array([1.5, -2.0]).tobytes(), [1.5, -2]),
    ('BF16', b'\xc0\x3f\x00\xc0', [1.5, -2]),
    ('F8_E4M3', b'\x3c\xc0', [1.5, -2]),
    ('F8_E5M2', b'\x3e\xc0', [1.5, -2]),
    ('F8_E4M3FNUZ', b'\x44\xc8', [1.5, -2]),
  ],
)
def test_small_floats_are_read(tmp_path, name, data, numbers):
  (tmp_path / 'x.safetensors').write_bytes(typed(name, [2], data))
  found = read_arrays(tmp_path / 'x.safetensors', ['a'])['a']
  np.testing.assert_array_equal(found.astype(np.float32), numbers)


@pytest.mark.parametrize(
  ('name', 'shape', 'data', 'message'),
  [
    ('I8', [2], b'12', 'a has the type int8; weights must be floats'),
    ('BOOL', [1], b'1', 'a has the type bool'),
    ('C64', [1], bytes(8), 'a has the type complex64'),
    ('F4', [2], b'1', 'a has the type F4'),
    (
      'F32',
      [2],
      np.float32([1, np.nan]).tobytes(),
      'a has 1 of 2 numbers that',
    ),
    ('F32', [2], np.float32([1, np.inf]).tobytes(), 'NaN, infinite'),
    ('F16', [2], np.float16([1, -np.inf]).tobytes(), 'must be finite'),
    ('F64', [2], np.array([1, 1e39]).tobytes(), 'too large for float32'),
    ('F8_E4M3', [2], b'\x3c\x7f', 'a has 1 of 2 numbers'),
  ],
)
def test_what_are_no_weights_is_refused_by_name(
  tmp_path, name, shape, data, message
):
  (tmp_path / 'x.safetensors').write_bytes(typed(name, shape, data))
  with pytest.raises(ValueError, match=rf'x\.safetensors.*{message}'):
    read_arrays(tmp_path / 'x.safetensors', ['a'])


@pytest.mark.parametrize(
  'scale', ['a_scale', 'a.weight_scale_inv', 'scaled_fp8']
)
def test_float8_with_a_scale_beside_it_is_refused(tmp_path, scale):
  entry = {'dtype': 'F8_E4M3', 'shape': [2], 'data_offsets': [0, 2]}
  other = {'dtype': 'F32', 'shape': [1], 'data_offsets': [2, 6]}
  path = tmp_path / 'x.safetensors'
  path.write_bytes(
    safetensors({'a': entry, scale: other}, body=b'\x3c\x3c1234')
  )
  with pytest.raises(ValueError, match=f'a has the type float8.*{scale}'):
    read_arrays(path, ['a'])
  path.write_bytes(
    safetensors({'a': entry, 'scaler.b': other}, body=b'\x3c' * 6)
  )
  assert read_arrays(path, ['a'])['a'].shape == (2,)


@pytest.mark.parametrize(
  'array',
  [
    np.array(['a']),
    np.zeros(2, [('x', 'f4')]),
    np.zeros(2, 'V2'),
    np.zeros(2, 'M8[s]'),
    np.zeros(2, 'c8'),
    np.arange(3),
  ],
)
def test_arrays_of_npz_that_are_no_floats(tmp_path, array):
  np.savez(tmp_path / 'x.npz', a=array, b=np.ones(2, '>f4'))
  with pytest.raises(ValueError, match='a has the type'):
    read_arrays(tmp_path / 'x.npz', ['a'])
  found = read_arrays(tmp_path / 'x.npz', ['b'])['b']
  np.testing.assert_array_equal(found, np.ones(2))


def test_a_name_that_appears_twice(tmp_path):
  a = json.dumps(A)
  twice = f'{{"a": {a}, "a": {a}}}'.encode()
  (tmp_path / 'x.safetensors').write_bytes(safetensors(twice))
  with pytest.raises(ValueError, match='a appears twice'):
    read_arrays(tmp_path / 'x.safetensors', ['a'])
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    whole = zipfile.ZipFile(io.BytesIO(npz())).read('a.npy')
    archive.writestr('a.npy', whole)
    with pytest.warns(UserWarning, match='Duplicate name'):
      archive.writestr('a.npy', whole)
  with pytest.raises(ValueError, match='appears twice'):
    read_arrays(tmp_path / 'x.npz', ['a'])


def test_a_small_archive_that_expands_is_refused(tmp_path):
  path = tmp_path / 'x.npz'
  np.savez_compressed(path, a=np.zeros((3, 2**23), np.float32))
  with pytest.raises(ValueError, match='100663\\d+ bytes.*compressed too much'):
    read_arrays(path, ['a'])
  np.savez_compressed(path, a=np.zeros(2**20, np.float32))
  assert read_arrays(path, ['a'])['a'].shape == (2**20,)


@pytest.mark.parametrize('flag', [1, 0x20])
def test_an_encrypted_entry_or_a_patch_is_refused(tmp_path, flag):
  whole = npz()
  for mark, place in ((b'PK\x01\x02', 8), (b'PK\x03\x04', 6)):
    at = whole.index(mark) + place
    whole = whole[:at] + bytes([flag]) + whole[at + 1 :]
  (tmp_path / 'x.npz').write_bytes(whole)
  with pytest.raises(ValueError, match='cannot be read as npz'):
    read_arrays(tmp_path / 'x.npz', ['a'])
