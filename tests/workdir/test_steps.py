"""Which checkpoints a job looks at."""

import json
import shutil
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import (
  CheckpointError,
  Checkpoints,
  completed_steps,
)
from flowdistill.workdir import steps as checkpoints
from flowdistill.workdir.steps import (
  among,
  check_steps,
  chosen,
  is_several,
  read_each,
)

STEPS = [10, 20, 30, 40]
RUN = (  # of which every second checkpoint stays
  'stages.flow.train.steps=40',
  'stages.distil.train.steps=40',
  'checkpoint.every=5',
  'checkpoint.keep=1',
  'checkpoint.keep_every=10',
  'stages.distil.objective.warmup_steps=30',
  "stages.distil.evaluators={'energy': {'name': 'energy', 'samples': 32}}",
  'evaluation.batch_size=32',
)


@pytest.mark.parametrize(
  ('text', 'found'),
  [
    ('last', [40]),
    ('20', [20]),
    ('25', []),
    ('15:30', [20, 30]),
    (':20', [10, 20]),
    ('30:', [30, 40]),
    (':', STEPS),
    ('all', STEPS),
  ],
)
def test_what_is_asked_for(text, found):
  check_steps(text)
  assert among(STEPS, text) == found


@pytest.mark.parametrize('text', ['', 'first', '1-2', '1:2:3', '-5', '1.5'])
def test_what_says_nothing_is_refused(text):
  with pytest.raises(ConfigError, match=f'--steps={text} must be last'):
    check_steps(text)


def test_one_step_or_several():
  assert [t for t in ('last', '5', '5:', 'all', 'wait') if is_several(t)] == [
    '5:',
    'all',
    'wait',
  ]


def test_where_there_is_none_it_says_which_there_are(tmp_path, monkeypatch):
  with pytest.raises(ConfigError, match='--steps=5 in .*, nor any other'):
    chosen(tmp_path, '5', 40)
  monkeypatch.setattr(checkpoints, 'completed_steps', lambda _: STEPS)
  with pytest.raises(ConfigError, match=r'only of \[10, 20, 30, 40\]'):
    chosen(tmp_path, '5', 40)


def test_waiting_sees_each_once_until_the_stage_has_ended(monkeypatch):
  """One that is gone before its turn is left out."""
  there = [10]
  monkeypatch.setattr(checkpoints, 'completed_steps', lambda _: list(there))
  monkeypatch.setattr(checkpoints, 'POLL', 0.01)

  def train():
    for new in ([20], [30, 40]):
      time.sleep(0.05)
      there[:] = new

  thread = threading.Thread(target=train)
  thread.start()
  assert list(chosen(None, 'wait', 40)) == STEPS
  thread.join()


def test_waiting_has_an_end(monkeypatch):
  monkeypatch.setattr(checkpoints, 'completed_steps', lambda _: [10])
  assert list(chosen(None, 'wait', 40, patience=0.2)) == [10]


@pytest.fixture
def stored(tmp_path, monkeypatch):
  """A folder with checkpoints of the steps 1, 2 and 3, and their reader."""
  monkeypatch.setattr(checkpoints, 'REMOVAL', 2.0)
  tree = {'x': jnp.zeros(4)}
  with Checkpoints(tmp_path, keep=3) as saved:
    for step in (1, 2, 3):
      saved.save(step, tree)
  abstract = jax.eval_shape(lambda: tree)
  return tmp_path, lambda step: checkpoint.restore(tmp_path, abstract, step)


@pytest.mark.parametrize('left', ['', 'commit_success.txt'])
def test_what_a_run_removes_meanwhile_is_left_out(stored, caplog, left):
  """Gone before it is read, or while it is read."""
  folder, read = stored

  def late(step):
    if step != 2:
      return read(step)
    remove(folder / '2', left)
    gone = threading.Timer(0.1, shutil.rmtree, [folder / '2', True])
    gone.start()
    return read(step)

  found = [step for step, _ in read_each(folder, (1, 2, 3), late)]
  assert found == [1, 3]
  assert 'step 2 is skipped: it was removed meanwhile' in caplog.text


def remove(path, left):
  """All of a checkpoint, or all but a file."""
  for inside in path.iterdir():
    if inside.name != left:
      shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
  if not left:
    path.rmdir()


@pytest.mark.parametrize('step', [2, 3])
def test_what_is_damaged_and_stays_is_an_error(stored, step):
  folder, read = stored
  remove(folder / str(step), 'commit_success.txt')
  with pytest.raises(CheckpointError, match='damaged or missing'):
    list(read_each(folder, (1, 2, 3), read))


def test_another_error_is_not_taken_for_a_removal(stored, monkeypatch):
  """And is raised at once."""
  monkeypatch.setattr(checkpoints, 'REMOVAL', 3600.0)

  def read(step):
    raise ConfigError(f'no such weights at {step}')

  with pytest.raises(ConfigError, match='no such weights at 1'):
    list(read_each(stored[0], (1, 2, 3), read))


def test_where_nothing_could_be_read_it_says_so(tmp_path):
  steps = chosen(tmp_path, 'wait', 4, patience=0.1)
  with pytest.raises(FileNotFoundError, match='no checkpoint in .* be read'):
    list(read_each(tmp_path, steps, lambda step: step))


@pytest.mark.slow
def test_two_jobs_wait_beside_a_run(tmp_path):
  """For the second stage, from before the first begins.

  The run is held at its first checkpoint until both have looked at one.
  """
  steps = ('steps=wait', 'patience=300')
  more = {'evaluate': (), 'generate': ('write=npz', 'nfe=1', 'samples=3')}
  started = [
    tiny.start(tmp_path, tiny.TOY, *RUN, job=job, options=(*steps, *options))
    for job, options in more.items()
  ]
  run = tiny.start(tmp_path, tiny.TOY, *RUN)
  folder = tmp_path / 'distil'
  made = [folder / 'evaluations', folder / 'generated']
  try:
    until(lambda: completed_steps(folder / 'checkpoints'), run)
    run.send_signal(signal.SIGSTOP)
    until(lambda: all(any(path.glob('*/*')) for path in made), *started)
    assert len(completed_steps(folder / 'checkpoints')) < 4
    run.send_signal(signal.SIGCONT)
    for process in (run, *started):
      printed = process.communicate(timeout=300)[0]
      assert process.returncode == 0, printed
  finally:
    for process in (run, *started):
      process.kill()
  check_outputs(folder)


def until(ready, *running, seconds=300):
  """Waits for `ready()`, as long as the processes run."""
  end = time.monotonic() + seconds
  while not ready():
    for process in running:
      assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < end, 'it was never ready'
    time.sleep(0.002)


def check_outputs(folder):
  """That each checkpoint that stayed was measured, and drawn from."""
  stayed = completed_steps(folder / 'checkpoints')
  assert stayed == STEPS
  for step in stayed:
    name = f'{step:08d}'
    rows = json.loads((folder / f'evaluations/{name}/results.json').read_text())
    assert {row['step'] for row in rows} == {step}
    with np.load(folder / f'generated/{name}/samples.npz') as saved:
      assert saved['x0'].shape == (3, 2)
      assert np.isfinite(saved['x0']).all()
  rows = json.loads((folder / 'evaluations/results.json').read_text())
  assert {row['step'] for row in rows} >= {*stayed}
  last = [row['energy_distance'] for row in rows if row['step'] == stayed[-1]]
  final = json.loads((folder / 'results.json').read_text())
  assert last == [row['energy_distance'] for row in final]
