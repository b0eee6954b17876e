"""Trackers: what they get, that one that fails is dropped, and real ones."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import threading

import pytest
from absl import logging
from PIL import Image

from flowdistill.config.run_sections import Logging
from flowdistill.training import trackers
from flowdistill.training.log import METRICS, MetricLog
from flowdistill.training.trackers import TRACKERS, Logged, run_id, run_name

ROWS = [{'model': 'student', 'nfe': 1, 'energy': 0.5, 'odd': [1]}, {'nfe': 2}]
# Trains nothing: opens a log twice, as a run that is resumed does.
PROGRAM = """
import pathlib, sys
from absl import logging
from flowdistill.training.log import MetricLog
folder, tracker = pathlib.Path(sys.argv[1]), sys.argv[2]
for start in (0, 2):
  with MetricLog(folder, resume_step=start, trackers=[tracker]) as log:
    for step in (start + 1, start + 2):
      log.write(step, step, {'loss': 1 / step, 'odd': float('nan')})
    rows = [{'model': 'student', 'nfe': 1, 'energy': 0.5}, {'nfe': None}]
    log.evaluation(start + 2, rows, [folder / 'sheets' / 'a.png'])
    assert tracker in log.trackers.live, 'it was dropped'
"""


class Faulty(Exception):
  """Of no class that anybody could list."""


class Fake:
  """Keeps what it is called with; fails or hangs at a method."""

  def __init__(self, calls, fails='', hangs=None):
    self.calls, self.fails, self.hangs = calls, fails, hangs

  def __getattr__(self, method):
    def call(*arguments):
      if method == self.fails:
        raise Faulty('out of\npatience')
      if method == self.hangs:
        HANG.wait(20)
      self.calls.append((method, *arguments))

    return call


HANG = threading.Event()


@pytest.fixture
def warned(monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, 'warning', lambda form, *a: said.append(form % a)
  )
  return said


def use(monkeypatch, **made):
  for name, make in made.items():
    monkeypatch.setitem(TRACKERS, name, make)


def fill(folder, *names):
  with MetricLog(folder, resume_step=0, trackers=names) as log:
    log.write(1, 8, {'loss': 0.5})
    log.evaluation(1, ROWS, [folder / 'sheets' / 'a.png'])
    log.evaluation(1, [], [])
  return (folder / METRICS).read_text()


def test_a_tracker_gets_scalars_rows_and_pictures(tmp_path, monkeypatch):
  calls = []
  use(monkeypatch, fake=lambda folder, step: Fake(calls))
  fill(tmp_path, 'fake', 'tensorboard')
  assert calls == [
    ('scalars', 1, {'loss': 0.5}),
    ('rows', 1, ROWS),
    ('picture', 1, 'sheets/a', tmp_path / 'sheets' / 'a.png'),
    ('close',),
  ]
  assert len(list(tmp_path.glob('events.*'))) == 1


@pytest.mark.parametrize('fails', ['scalars', 'rows', 'picture', 'close'])
def test_one_that_fails_is_dropped_with_a_line(
  tmp_path, monkeypatch, warned, fails
):
  mine, others = [], []
  use(
    monkeypatch,
    bad=lambda folder, step: Fake(mine, fails),
    good=lambda folder, step: Fake(others),
  )
  text = fill(tmp_path, 'bad', 'good')
  assert json.loads(text)['loss'] == 0.5
  assert warned == ['The tracker bad is dropped: Faulty: out of patience']
  names = ['scalars', 'rows', 'picture', 'close']
  assert [call[0] for call in others] == names
  assert [call[0] for call in mine] == names[: names.index(fails)]


def test_one_that_cannot_be_opened_or_is_not_installed(
  tmp_path, monkeypatch, warned
):
  def bad(folder, step):
    raise Faulty

  use(monkeypatch, bad=bad)
  monkeypatch.setitem(sys.modules, 'wandb', None)
  assert fill(tmp_path, 'bad', 'wandb')
  assert [text.split(':')[0] for text in warned] == [
    'The tracker bad is dropped',
    'The tracker wandb is dropped',
  ]


def test_one_that_does_not_answer_is_dropped(tmp_path, monkeypatch, warned):
  monkeypatch.setattr(trackers, 'PATIENCE', 0.1)
  use(monkeypatch, slow=lambda folder, step: Fake([], hangs='scalars'))
  assert fill(tmp_path, 'slow')
  HANG.set()
  assert warned == [
    'The tracker slow is dropped: TimeoutError: no answer in 0.1 s'
  ]


def test_without_trackers_there_are_the_lines_alone(tmp_path):
  fill(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == [METRICS]


def test_rows_become_a_table_of_all_keys():
  class Module:
    Table = staticmethod(lambda **given: given)

  class Run:
    def log(self, values, step):
      self.got = values, step

  run = Run()
  Logged(Module, run).rows(3, ROWS)
  values, step = run.got
  assert step == 3
  assert values['rows']['columns'] == ['model', 'nfe', 'energy', 'odd']
  assert values['rows']['data'] == [
    ['student', 1, 0.5, '[1]'],
    [None, 2, None, None],
  ]


def test_the_id_of_a_stage_stays(tmp_path):
  first = run_id(tmp_path)
  assert run_id(tmp_path) == first != run_id(tmp_path.parent)
  assert run_name(tmp_path / 'run' / 'distil') == 'run/distil'


def test_names_of_trackers_are_checked():
  assert Logging(trackers=['wandb']).trackers == ('wandb',)
  with pytest.raises(ValueError, match="trackers = .*did you mean 'wandb'"):
    Logging(trackers=('tensorboard', 'wanbd'))
  with pytest.raises(ValueError, match='must differ'):
    Logging(trackers=('wandb', 'wandb'))


def track(folder, tracker, **environment):
  """Runs PROGRAM with a real tracker."""
  if importlib.util.find_spec(tracker) is None:
    pytest.skip(f'{tracker} is not installed')
  (folder / 'sheets').mkdir()
  Image.new('RGBA', (8, 8)).save(folder / 'sheets' / 'a.png')
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(folder), tracker],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert done.returncode == 0, done.stderr
  assert not done.stderr.count('dropped'), done.stderr


@pytest.mark.slow
def test_wandb_offline_is_resumed_under_the_same_id(tmp_path):
  track(tmp_path, 'wandb', WANDB_MODE='offline')
  runs = [path.name for path in (tmp_path / 'wandb').glob('offline-run-*')]
  assert runs and all(name.endswith(run_id(tmp_path)) for name in runs)
  media = {path.suffix for path in tmp_path.rglob('media/*/**/*')}
  assert {'.png', '.json'} <= media


@pytest.mark.slow
def test_trackio_is_resumed_under_the_same_name(tmp_path):
  home = tmp_path / 'trackio'
  track(tmp_path, 'trackio', TRACKIO_DIR=str(home))
  with sqlite3.connect(home / 'flowdistill.db') as base:
    rows = base.execute(
      'SELECT run_name, step, metrics FROM metrics'
    ).fetchall()
  assert {name for name, _, _ in rows} == {
    f'{run_name(tmp_path)}-{run_id(tmp_path)}'
  }
  found = [(step, json.loads(metrics)) for _, step, metrics in rows]
  losses = {step: each['loss'] for step, each in found if 'loss' in each}
  assert losses == {step: 1 / step for step in (1, 2, 3, 4)}
  assert sum('rows' in each for _, each in found) == 2
  assert list(home.rglob('*.png'))
