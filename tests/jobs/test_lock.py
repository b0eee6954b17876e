"""Two jobs in one workdir: writers are refused or wait, readers are not."""

import concurrent.futures
import signal
import time
import types

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import STUDENT
from flowdistill.jobs import evaluate, generate, pairs, replay, train
from flowdistill.stages.failure import Halted
from flowdistill.workdir.folders import FAILURE, identity
from flowdistill.workdir.lock import LOCK, Lock
from flowdistill.workdir.results import read_rows

STEPS = ('stages.flow.train.steps=4', 'stages.distil.train.steps=2')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A toy run that has ended."""
  workdir = tmp_path_factory.mktemp('run')
  tiny.train_here(workdir, tiny.TOY, *tiny.UNMEASURED, *STEPS)
  return workdir


def specs(*overrides):
  return tiny.stages(tiny.TOY, *STEPS, *overrides)


def test_a_second_training_is_refused_before_it_changes_anything(tmp_path):
  with Lock(tmp_path / 'distil', 'train'):
    for only in ('', 'distil'):
      with pytest.raises(ConfigError, match=r'distil is in use: process \d+'):
        tiny.run(train, specs(), tmp_path, train.Options(stage=only))
    left = {path.name for path in tmp_path.rglob('*')}
    assert left <= {'flow', 'distil', LOCK}
    assert not (tmp_path / 'flow' / LOCK).exists()


@pytest.mark.slow
def test_readers_are_not_refused_and_leave_no_lock(run):
  with Lock(run / 'flow', 'train'), Lock(run / 'distil', 'train'):
    options = generate.Options(samples=2, write='npz')
    assert len(tiny.run(generate, specs(), run, options)) == 1  # folder
    with pytest.raises(ConfigError, match='no step has failed'):
      tiny.run(replay, specs(), run, replay.Options())
    rows = tiny.run(
      evaluate, specs(), run, evaluate.Options(stage='distil', steps='all')
    )
    assert rows
  assert not list(run.rglob(LOCK))
  assert not (run / 'flow' / FAILURE).exists()


def test_rows_of_a_stage_that_is_set_aside_are_not_written(
  tmp_path, monkeypatch
):
  stage = tmp_path / 'flow'
  stage.mkdir()
  assembly = types.SimpleNamespace(
    blueprint=types.SimpleNamespace(folder=stage)
  )

  def measure_stage(*_, **__):
    stage.rename(tmp_path / 'flow.old-1')
    stage.mkdir()
    return [{'model': 'student', 'step': 2}]

  monkeypatch.setattr(evaluate, 'measure_stage', measure_stage)
  state, here = types.SimpleNamespace(step=2), identity(stage)
  with pytest.raises(Halted, match='flow was removed, renamed or made anew'):
    evaluate.measure(assembly, state, here)
  assert list(stage.iterdir()) == []
  assert identity(tmp_path / 'flow.old-1') == here
  with pytest.raises(Halted, match='figures are of the network that was there'):
    evaluate.check_same(tmp_path / 'gone', here)


@pytest.mark.slow
def test_pairs_are_made_by_one_job(run, tmp_path):
  out = str(tmp_path / 'pairs')
  how = {'count': 4, 'nfe': 1, 'sampler': 'euler', 'batch_size': 4}
  options = pairs.Options(stage='flow', out=out, **how)
  with Lock(run / 'flow', 'train'):
    with Lock(tmp_path / 'pairs', 'pairs'):
      with pytest.raises(ConfigError, match=r'--job=pairs, since .* writes'):
        tiny.run(pairs, specs(), run, options)
    tiny.run(pairs, specs(), run, options)
  assert not (tmp_path / 'pairs' / LOCK).exists()


@pytest.mark.slow
def test_rows_of_evaluations_at_the_same_time_are_all_there(run):
  """Of other samplers at the same step, and of the evaluators' sweeps."""

  def measure(nfe):
    options = evaluate.Options(model=(STUDENT,), sampler=('gamma',), nfe=(nfe,))
    return tiny.run(evaluate, specs(), run, options)

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    made = [row for rows in pool.map(measure, (3, 5, 7)) for row in rows]
  there = read_rows(run / 'distil' / 'evaluations' / '00000002/results.json')
  assert {row['nfe'] for row in made} == {3, 5, 7}
  assert {3, 5, 7} <= {row.get('nfe') for row in there}


@pytest.mark.slow
def test_a_killed_training_is_followed_at_once(tmp_path):
  """Of two commands, the second is refused; after SIGKILL it goes on."""
  steps = ('stages.flow.train.steps=100000', 'log.every=1')
  given = (tiny.TOY, *steps, *tiny.UNMEASURED)
  logged = tmp_path / 'flow' / 'metrics.jsonl'
  first = tiny.start(tmp_path, *given)
  wait_for(first, logged)
  second = tiny.start(tmp_path, *given)
  text = second.communicate(timeout=300)[0]
  assert second.returncode == 2
  assert f'flow is in use: process {first.pid} on' in text.splitlines()[-1]
  first.send_signal(signal.SIGKILL)
  first.wait()
  assert (tmp_path / 'flow' / LOCK).exists()
  logged.unlink()  # so that the steps of the third are waited for
  third = tiny.start(tmp_path, *given)
  wait_for(third, logged)
  third.send_signal(signal.SIGTERM)
  text = third.communicate(timeout=300)[0]
  assert third.returncode == 75, text
  assert f'taken over: process {first.pid} on' in text
  assert not list(tmp_path.rglob(LOCK))


def wait_for(process, logged):
  """Until a step is logged: before it, a signal has nothing to save."""
  while not (logged.is_file() and logged.stat().st_size):
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.05)
