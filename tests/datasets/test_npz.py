"""NumPy's files: read as they are; no code in them is run."""

import pathlib
import zipfile

import numpy as np
import pytest

from flowdistill.datasets.npz import map_npy, read_npz


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
