"""An array that stands in a file, by its hash."""

import dataclasses
import hashlib

import numpy as np
import pytest

from flowdistill.files.stored_array import StoredArray


@pytest.fixture
def stored(tmp_path):
  path = tmp_path / 'a.npy'
  np.save(path, np.arange(6.0).reshape(2, 3))
  return StoredArray(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def test_it_is_the_array_in_any_dtype(stored):
  np.testing.assert_array_equal(stored, np.arange(6.0).reshape(2, 3))
  assert np.asarray(stored, 'float32').dtype == np.float32
  assert StoredArray(**dataclasses.asdict(stored)) == stored


def test_another_or_a_missing_file_is_named(stored, tmp_path):
  other = dataclasses.replace(stored, sha256='f' * 64)
  with pytest.raises(ValueError, match=r'a\.npy has been changed since it was'):
    np.asarray(other)
  (tmp_path / 'a.npy').unlink()
  with pytest.raises(ValueError, match=r'a\.npy, which a record names, cannot'):
    np.asarray(other)


def test_pickles_are_not_read(tmp_path):
  path = tmp_path / 'p.npy'
  np.save(path, np.asarray([{}], object), allow_pickle=True)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  with pytest.raises(ValueError, match='allow_pickle=False'):
    np.asarray(StoredArray(str(path), digest))
