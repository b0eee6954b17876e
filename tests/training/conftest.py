"""Checkpoints that tests read."""

import shutil

import pytest
from training.states import make_state

from flowdistill.training.checkpoint import Checkpoints


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A folder with the states 1 and 2, not to be changed."""
  folder = tmp_path_factory.mktemp('saved')
  with Checkpoints(folder, keep=2) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, make_state(step))
  return folder


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'copied')
