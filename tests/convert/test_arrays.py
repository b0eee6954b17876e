"""Files of arrays: both kinds say the same, and neither can carry code."""

import pathlib
import pickle

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


@pytest.mark.parametrize('name', ['x.pth', 'x.pt', 'x.bin', 'x', 'stage:flow'])
def test_other_kinds_of_files_are_not_opened(tmp_path, name):
  (tmp_path / name).write_bytes(pickle.dumps(Touches(tmp_path / 'harm')))
  with pytest.raises(ValueError, match=r'must be a \.safetensors or \.npz'):
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
