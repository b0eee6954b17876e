"""Pairs in the format of SlimFlow: what is no file is never waited for."""

import os

import numpy as np
import pytest

from flowdistill.datasets.slimflow import open_slimflow


@pytest.mark.parametrize('name', ['z0.npy', 'z1.npy'])
def test_a_pipe_is_refused(tmp_path, name):
  (tmp_path / '1').mkdir()
  for file in ('z0.npy', 'z1.npy'):
    np.save(tmp_path / '1' / file, np.zeros((2, 3, 4, 4), np.float32))
  assert len(open_slimflow(tmp_path)) == 2
  (tmp_path / '1' / name).unlink()
  os.mkfifo(tmp_path / '1' / name)
  with pytest.raises(ValueError, match=f'{name} cannot be read: it is not a r'):
    open_slimflow(tmp_path)
