"""NumPy's files: read as they are; no code in them is run."""

import io
import pathlib
import zipfile

import numpy as np
import pytest

from flowdistill.files.npz import map_npy, read_npz


class Touches:
  """What unpickles it makes a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def test_the_arrays_that_are_chosen(tmp_path):
  whole = {'a': np.arange(6).reshape(2, 3), 'b.c': np.ones(2, np.float16)}
  np.savez(tmp_path / 'x.npz', **whole)
  found = read_npz(tmp_path / 'x.npz', lambda names: names[1:])
  assert set(found) == {'b.c'}
  np.testing.assert_array_equal(found['b.c'], whole['b.c'])


def test_an_npy_is_the_file(tmp_path):
  whole = np.asfortranarray(np.arange(6).reshape(2, 3))
  np.save(tmp_path / 'x.npy', whole)
  found = map_npy(tmp_path / 'x.npy')
  np.testing.assert_array_equal(found, whole)
  with pytest.raises(ValueError, match='read-only'):
    found[0, 0] = 1


def test_a_pickle_is_not_run(tmp_path):
  inside = np.array([Touches(tmp_path / 'harm')], object)
  np.savez(tmp_path / 'x.npz', x=inside)
  np.save(tmp_path / 'x.npy', inside)
  with pytest.raises(ValueError, match='x.npz is not an .npz file'):
    read_npz(tmp_path / 'x.npz', lambda names: names)
  with pytest.raises(ValueError, match='x.npy is not an .npy file'):
    map_npy(tmp_path / 'x.npy')
  assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize('length', [0, 5, 60, 130])
def test_a_file_that_is_cut_short(tmp_path, length):
  np.save(tmp_path / 'x.npy', np.arange(3))
  whole = (tmp_path / 'x.npy').read_bytes()
  (tmp_path / 'x.npy').write_bytes(whole[:length])
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('x.npy', whole[:length])
  with pytest.raises(ValueError, match='x.npy is not an .npy file'):
    map_npy(tmp_path / 'x.npy')
  with pytest.raises(ValueError, match='x.npz is not an .npz file'):
    read_npz(tmp_path / 'x.npz', lambda names: names)
  with pytest.raises(ValueError, match='there.npy is not an .npy file'):
    map_npy(tmp_path / 'not_there.npy')


def member(data):
  """An .npz with one member."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('x.npy', data)
  return file.getvalue()


def npy(shape, data=b'abcdef'):
  """An .npy whose header says `shape`."""
  head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n"
  size = len(head).to_bytes(2, 'little')
  return b'\x93NUMPY\1\0' + size + head.encode() + data


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ('(5,)', 'the header says fewer bytes'),
    ('(7,)', ''),
    ('(-6,)', ''),
    (f'({2**63}, 1)', ''),
    (f'({10**30},)', ''),
    (f'({2**32}, {2**32})', ''),
    ('9' * 5000, ''),
    ('(' * 20000, 'Header info length'),
  ],
)
@pytest.mark.filterwarnings('ignore')
def test_a_header_that_lies_is_refused_in_one_line(tmp_path, shape, message):
  (tmp_path / 'x.npy').write_bytes(npy(shape))
  (tmp_path / 'x.npz').write_bytes(member(npy(shape)))
  for read in (
    lambda: map_npy(tmp_path / 'x.npy'),
    lambda: read_npz(tmp_path / 'x.npz', lambda names: names),
  ):
    with pytest.raises(ValueError, match=f'is not an .*{message}') as error:
      read()
    assert '\n' not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'it is empty'),
    (b'<!DOCTYPE html>', "it begins with b'<!DOCT'"),
    (b'version https://git-lfs', "it begins with b'versio'"),
    (npy('(6,)'), 'it is one array, an .npy file'),
  ],
)
def test_what_a_file_is_instead_is_said(tmp_path, data, message):
  (tmp_path / 'x.npz').write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read_npz(tmp_path / 'x.npz', lambda names: names)
  (tmp_path / 'x.npy').write_bytes(member(npy('(6,)')))
  with pytest.raises(ValueError, match='it is an .npz, or a .zip file'):
    map_npy(tmp_path / 'x.npy')


@pytest.mark.filterwarnings('ignore')  # zipfile warns of the second
def test_an_array_that_is_there_twice_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('x.npy', npy('(6,)'))
    archive.writestr('x.npy', npy('(6,)', b'ABCDEF'))
  with pytest.raises(ValueError, match='x: there is more than one array'):
    read_npz(tmp_path / 'x.npz', lambda names: names)
