"""Killed for real, and continued: the same to the byte as never killed."""

import json
import shutil
import signal

import pytest
from jobs import tiny

from flowdistill.training.watchdog import AGAIN

ONE = (
  'stages.distil.train.steps=40',
  'stages.flow.train.steps=2',
  'checkpoint.every=4',
  'log.every=1',
  'stages.distil.evaluators={}',
  'stages.distil.objective.warmup_steps=30',
)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The workdir of a run that nobody disturbed."""
  workdir = tmp_path_factory.mktemp('finished')
  output = tiny.start(workdir, tiny.TOY, *ONE).communicate()[0]
  assert 'results and pictures' in output, output
  return workdir


@pytest.fixture(scope='module')
def undisturbed(finished):
  return tiny.arrays(finished / 'distil'), metrics(finished)


def metrics(workdir):
  path = workdir / 'distil' / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()]


def saving(workdir):
  """Whether a checkpoint is being written right now, after the first."""
  folder = workdir / 'distil' / 'checkpoints'
  found = [p.name for p in folder.glob('*')] if folder.is_dir() else []
  done = [name for name in found if name.isdigit()]
  return bool(done) and len(found) > len(done)


def trained(workdir, step):
  path = workdir / 'distil' / 'metrics.jsonl'
  return path.is_file() and len(path.read_text().splitlines()) >= step


@pytest.mark.parametrize(
  'ready',
  [
    saving,
    pytest.param(lambda w: trained(w, 11), marks=pytest.mark.slow),
  ],
)
def test_killed_and_continued_is_the_same_to_the_byte(
  ready, undisturbed, tmp_path
):
  process = tiny.start(tmp_path, tiny.TOY, *ONE)
  tiny.send_when(process, lambda: ready(tmp_path), signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL
  output = tiny.start(tmp_path, tiny.TOY, *ONE).communicate()[0]
  assert 'distil: continues at step' in output, output
  arrays, lines = undisturbed
  tiny.assert_same_bytes(tiny.arrays(tmp_path / 'distil'), arrays)
  assert metrics(tmp_path) == lines


def test_sigterm_saves_exits_cleanly_and_continues(undisturbed, tmp_path):
  process = tiny.start(tmp_path, tiny.TOY, *ONE)
  output = tiny.send_when(process, lambda: trained(tmp_path, 6), signal.SIGTERM)
  assert process.returncode == AGAIN == 75, output
  assert 'distil: stopped and saved at step' in output
  output = tiny.start(tmp_path, tiny.TOY, *ONE).communicate()[0]
  assert 'distil: continues at step' in output, output
  arrays, lines = undisturbed
  tiny.assert_same_bytes(tiny.arrays(tmp_path / 'distil'), arrays)
  assert metrics(tmp_path) == lines


def test_a_damaged_checkpoint_is_named_with_its_folder(finished, tmp_path):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  last = tmp_path / 'distil' / 'checkpoints' / '40'
  (last / 'state' / 'manifest.ocdbt').write_bytes(b'')
  before = metrics(tmp_path)
  more = [text.replace('steps=40', 'steps=41') for text in ONE]
  process = tiny.start(tmp_path, tiny.TOY, *more)
  output = process.communicate()[0]  # threads of Orbax may speak in between
  assert process.returncode == 2
  said = f'error: the checkpoint {last} cannot be read, a file in it is damaged'
  assert f'{said} or missing: remove that folder' in output
  assert last.is_dir() and metrics(tmp_path) == before
