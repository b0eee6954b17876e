"""Data sets of TFDS, prepared once."""

import pytest
import tiny_tfds


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """Where all of them lie."""
  path = str(tmp_path_factory.mktemp('prepared'))
  tiny_tfds.prepare(path)
  return path
