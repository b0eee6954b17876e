"""Beside the steps: saving does not depend on evaluating."""

import json
import signal

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.training.checkpoint import completed_steps

OFTEN = {'name': 'flow_loss', 'samples': 32}
SELDOM = {'name': 'straightness', 'samples': 32, 'steps': 2}
FLOW = ('stages.distil.frozen={}', 'stages.distil.objective=rectified_flow')


def run(workdir, *overrides):
  evaluators = {'often': OFTEN, 'seldom': SELDOM}
  return tiny.train_here(
    workdir,
    tiny.TOY,
    f'stages.distil.evaluators={evaluators}',
    'stages.distil.init_from=stage:flow',
    *FLOW,
    *overrides,
  )


def steps(workdir):
  return completed_steps(workdir / 'distil' / 'checkpoints')


def test_the_best_may_be_of_a_slower_evaluator(tmp_path):
  """Every multiple of checkpoint.every is saved, evaluated or not."""
  schedules = {'often': 2, 'seldom': 3}
  run(
    tmp_path,
    f"stages.distil.evaluation={{'schedules': {schedules}, 'batch_size': 32}}",
    'stages.distil.checkpoint.best=student/straightness',
    'stages.distil.checkpoint.every=2',
    'stages.distil.checkpoint.keep=20',
    'stages.distil.train.steps=7',
  )
  assert steps(tmp_path) == [2, 3, 4, 6, 7]
  lines = (tmp_path / 'distil' / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  measured = [r['step'] for r in rows if 'student/straightness' in r]
  assert measured == [3, 6]


def test_of_what_is_measured_the_best_stays(tmp_path):
  run(
    tmp_path,
    "stages.distil.evaluation={'schedules': {'seldom': 2}, 'batch_size': 32}",
    'stages.distil.checkpoint.best=student/straightness',
    'stages.distil.checkpoint.every=3',
    'stages.distil.checkpoint.keep=1',
    'stages.distil.train.steps=11',
  )
  lines = (tmp_path / 'distil' / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  figures = {
    row['step']: row['student/straightness']
    for row in rows
    if 'student/straightness' in row
  }
  assert sorted(figures) == [2, 4, 6, 8, 10]
  best = min(figures, key=figures.__getitem__)
  assert steps(tmp_path) == sorted({best, 11})


def test_a_figure_that_nobody_measures_is_refused_when_all_have_run(tmp_path):
  with pytest.raises(ConfigError, match="best = 'student/energy' was not"):
    run(
      tmp_path,
      "stages.distil.evaluation={'schedules': {'often': 1, 'seldom': 2}, "
      "'batch_size': 32}",
      'stages.distil.checkpoint.best=student/energy',
      'stages.distil.train.steps=5',
    )
  assert steps(tmp_path) == [2]


def test_a_run_that_is_stopped_while_it_measures_has_saved(tmp_path):
  """SIGTERM at a step that is evaluated: what it says is there, is there."""
  evaluators = {'slow': {**SELDOM, 'samples': 256, 'steps': 64}}
  overrides = [
    'stages.distil.train.steps=2000',
    f'stages.distil.evaluators={evaluators}',
    "stages.distil.evaluation={'schedules': {'slow': 5}, 'batch_size': 32}",
    'stages.distil.checkpoint.best=student/straightness',
    'stages.distil.checkpoint.every=5',
    *FLOW,
  ]

  def measuring():
    path = tmp_path / 'distil' / 'metrics.jsonl'
    return path.is_file() and 'straightness' in path.read_text()

  process = tiny.start(tmp_path, tiny.TOY, *overrides)
  output = tiny.send_when(process, measuring, signal.SIGTERM)
  said = [line for line in output.splitlines() if 'stopped and saved' in line]
  (step,) = [int(w) for w in said[0].replace(';', ' ').split() if w.isdigit()]
  assert steps(tmp_path)[-1] == step
