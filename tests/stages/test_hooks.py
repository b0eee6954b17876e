"""Beside the steps: saving does not depend on evaluating."""

import contextlib
import json
import signal
from types import SimpleNamespace

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.stages import hooks
from flowdistill.stages.failure import Halted, Unmeasured
from flowdistill.training.checkpoint import completed_steps
from flowdistill.training.log import MetricLog
from flowdistill.training.loop import Stop

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


DRILLED = tiny.CONFIGS.parent / 'tests' / 'jobs' / 'drilled.py'
SHORT = (
  'train.steps=7',
  'checkpoint.every=2',
  f"evaluators={{'often': {OFTEN}, 'seldom': {SELDOM}, 'also': {OFTEN}}}",
  "evaluation={'schedules': {'often': 2, 'seldom': 4, 'also': 4}, "
  "'batch_size': 32}",
  'checkpoint.best=student/straightness',
  'checkpoint.keep=1',
)


def lines_of(workdir):
  """The rows of metrics, without the times that are measured."""
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  tiny.train_here(workdir, DRILLED, *SHORT)
  return lines_of(workdir)


class Killed(BaseException):
  """Ends a run as SIGKILL does: nothing is saved or logged any more."""


@pytest.mark.slow
@pytest.mark.parametrize('name', ['often', 'seldom', 'also'])
def test_an_evaluation_that_was_killed_is_made_first(
  undisturbed, tmp_path, monkeypatch, name
):
  """Each row once, and in the same order, whichever of three it was."""
  measure = hooks.measure_stage

  def dying(assembly, state, folder, names=None, **more):
    if names == [name] and int(state.step) == 4:
      raise Killed
    return measure(assembly, state, folder, names, **more)

  monkeypatch.setattr(hooks, 'measure_stage', dying)
  with pytest.raises(Killed):
    tiny.train_here(tmp_path, DRILLED, *SHORT)
  assert completed_steps(tmp_path / 'checkpoints')[-1] == 4
  monkeypatch.setattr(hooks, 'measure_stage', measure)
  tiny.train_here(tmp_path, DRILLED, *SHORT)
  assert lines_of(tmp_path) == undisturbed
  made = [r.get('evaluator') for r in undisturbed if r['step'] == 4]
  assert made == [None, 'often', 'seldom', 'also']
  assert completed_steps(tmp_path / 'checkpoints') == [4, 7]


def hooks_of(folder, log, stop=None):
  """The hooks of a stage of ten steps with three evaluators, without arrays."""
  schedules = {'often': 2, 'seldom': 4, 'drawn': 4}
  stage = SimpleNamespace(
    evaluators=schedules,
    evaluation=SimpleNamespace(schedules=schedules, every=None),
    checkpoint=SimpleNamespace(best=''),
    train=SimpleNamespace(batch_size=16),
  )
  blueprint = SimpleNamespace(
    folder=folder,
    total=8,
    stage=stage,
    learners={},
    to_steps=lambda n: n or 0,
  )
  layout = SimpleNamespace(broadcast=float)
  assembly = SimpleNamespace(blueprint=blueprint, layout=layout)
  dog = SimpleNamespace(busy=lambda _: contextlib.nullcontext())
  return hooks.Hooks(
    assembly,
    None,
    None,
    {},
    log,
    dog,
    stop or Stop(),
    lambda folder, rows: None,
  )


@pytest.fixture
def measured(monkeypatch):
  """The evaluators that have run; `drawn` makes pictures and no figures."""
  names = []

  def measure(assembly, state, folder, chosen, **_):
    names.extend(chosen)
    return [] if chosen == ['drawn'] else [{'model': 'a', chosen[0]: 0.5}]

  monkeypatch.setattr(hooks, 'measure_stage', measure)
  return names


@pytest.mark.parametrize(
  ('step', 'made', 'due'),
  [
    (4, [], ['often', 'seldom', 'drawn']),
    (4, ['often'], ['seldom', 'drawn']),
    (4, ['often', 'seldom'], ['drawn']),
    (4, ['often', 'seldom', 'drawn'], []),
    (6, [], ['often']),
    (7, [], []),
    (8, [], []),  # the last: its results are those of the stage
  ],
)
def test_what_is_due_at_a_restored_step_is_made_once(
  tmp_path, measured, step, made, due
):
  (tmp_path / 'config.json').touch()
  with MetricLog(tmp_path, resume_step=0) as log:
    log.write(step, 16 * step, {'loss': 0.5})
    for name in made:
      hooks_of(tmp_path, log).evaluator(name)(step, None)
  for _ in range(2):  # the second time nothing is left
    del measured[:]
    with MetricLog(tmp_path, resume_step=step) as log:
      hooks_of(tmp_path, log).catch_up(step, None)
    assert measured == due
    due = []
  rows = [r for r in lines_of(tmp_path) if 'evaluator' in r]
  every = {4: ['often', 'seldom', 'drawn'], 6: ['often']}.get(step, [])
  assert [row['evaluator'] for row in rows] == every


def test_what_an_older_version_has_logged_is_not_logged_twice(
  tmp_path, measured
):
  """Its rows do not name their evaluator."""
  (tmp_path / 'config.json').touch()
  with MetricLog(tmp_path, resume_step=0) as log:
    log.write(4, 64, {'a/often': 0.5})
    hooks_of(tmp_path, log).catch_up(4, None)
  rows = [list(row) for row in lines_of(tmp_path)]
  assert sum('a/often' in row for row in rows) == 1
  assert sum('a/seldom' in row for row in rows) == 1


@pytest.mark.parametrize('diverged', [True, False])
def test_an_entry_that_diverged_is_no_best_and_no_error(
  tmp_path, monkeypatch, diverged
):
  row = {'model': 'a', 'sampler': 'flow_map', 'nfe': 4}
  row |= {'diverged': 3} if diverged else {'accuracy': 0.5}
  monkeypatch.setattr(hooks, 'measure_stage', lambda *_, **__: [row])
  with MetricLog(tmp_path, resume_step=0) as log:
    (tmp_path / 'config.json').touch()
    made = hooks_of(tmp_path, log)
    made.assembly.blueprint.stage.checkpoint.best = 'a/flow_map_4/fid'
    made.assembly.blueprint.key = str
    saved = []
    monkeypatch.setattr(made, 'save', lambda step, state: saved.append(step))
    for name in ('often', 'seldom'):
      made.evaluator(name)(4, None)
    if diverged:
      made.evaluator('drawn')(4, None)
      assert (saved, made.figures) == ([], {})
      return
    with pytest.raises(
      ConfigError, match="'a/flow_map_4/fid' was not measured"
    ):
      made.evaluator('drawn')(4, None)


def test_what_could_be_measured_is_shown_before_the_error(
  tmp_path, monkeypatch
):
  def measure(*_, **__):
    raise Unmeasured('the samples of student are not finite', [{'model': 'a'}])

  monkeypatch.setattr(hooks, 'measure_stage', measure)
  (tmp_path / 'config.json').touch()
  shown = {}
  with MetricLog(tmp_path, resume_step=0) as log:
    made = hooks_of(tmp_path, log)
    made.show = lambda folder, rows: shown.update({folder.name: rows})
    with pytest.raises(Unmeasured, match='the samples of student'):
      made.evaluator('often')(4, None)
  assert shown == {'00000004': [{'model': 'a'}]}
  assert lines_of(tmp_path) == []  # it is due again


def test_a_signal_gives_an_evaluation_up_without_a_row(tmp_path, monkeypatch):
  (tmp_path / 'config.json').touch()

  def measure(*_, **__):
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError('it went on')

  monkeypatch.setattr(hooks, 'measure_stage', measure)
  with MetricLog(tmp_path, resume_step=0) as log, Stop() as stop:
    hooks_of(tmp_path, log, stop).catch_up(4, None)
    assert stop.asked()
  assert lines_of(tmp_path) == []


def test_a_folder_that_is_gone_is_named(tmp_path, measured):
  with (
    MetricLog(tmp_path, resume_step=0) as log,
    pytest.raises(Halted, match='was removed or renamed while this run'),
  ):
    hooks_of(tmp_path, log).write(1, {'loss': 0.5})


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_measures_makes_the_row(tmp_path):
  """A real SIGKILL, at a step whose checkpoint is complete."""
  slow = {**SELDOM, 'samples': 512, 'steps': 128}
  overrides = [
    'train.steps=12',
    'checkpoint.every=5',
    f"evaluators={{'often': {OFTEN}, 'slow': {slow}}}",
    "evaluation={'every': 5, 'batch_size': 32}",
  ]
  for name in ('undisturbed', 'killed'):
    process = tiny.start(tmp_path / name, DRILLED, *overrides)
    if name == 'killed':
      metrics = tmp_path / name / 'metrics.jsonl'
      saved = tmp_path / name / 'checkpoints' / '5'
      tiny.send_when(
        process,
        lambda: saved.is_dir() and '"often"' in metrics.read_text(),  # noqa: B023
      )
      assert lines_of(tmp_path / name)[-1]['evaluator'] == 'often'
      process = tiny.start(tmp_path / name, DRILLED, *overrides)
    output = process.communicate()[0]
    assert process.returncode == 0, output
  assert lines_of(tmp_path / 'killed') == lines_of(tmp_path / 'undisturbed')
