"""When a stage counts as finished, and which state its checkpoint has."""

import pathlib
import types

import pytest

from flowdistill.stages import assembly
from flowdistill.stages.train import finished_rows
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import CheckpointError
from flowdistill.training.json_files import write_json


def test_results_of_another_step_are_not_those_of_the_last(tmp_path):
  row = {'model': 'student', 'step': 4, 'fid': 1.5}
  assert finished_rows(tmp_path, 4) is None
  write_json(tmp_path / 'results.json', [row])
  assert finished_rows(tmp_path, 4) == [row]
  assert finished_rows(tmp_path, 7) is None


def test_without_evaluators_the_checkpoint_must_be_one(tmp_path):
  (tmp_path / 'checkpoints' / '7').mkdir(parents=True)
  write_json(tmp_path / 'results.json', [])
  with pytest.raises(CheckpointError, match='checkpoints/7 cannot be read'):
    finished_rows(tmp_path, 7)


@pytest.mark.parametrize('step', [None, 9])
def test_a_checkpoint_that_was_renamed_is_refused(step, monkeypatch):
  folder = pathlib.Path('W/flow/checkpoints')
  monkeypatch.setattr(assembly, 'abstract_state', lambda _: None)
  monkeypatch.setattr(checkpoint, 'completed_steps', lambda _: [2, 9])
  state = types.SimpleNamespace(step=9)
  monkeypatch.setattr(checkpoint, 'restore', lambda *_: state)
  assert assembly.restored(None, folder, step) is state
  state.step = 2
  message = f'checkpoint {folder}/9 has the state of step 2: it was renamed'
  with pytest.raises(CheckpointError, match=message):
    assembly.restored(None, folder, step)
