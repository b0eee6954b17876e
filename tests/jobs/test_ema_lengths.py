"""Lengths of power EMAs, in jobs and in later stages."""

import json
import shutil

import jax
import numpy as np
import pytest
from jobs import tiny
from jobs.walks import SOURCE, student, walked

import flowdistill
from flowdistill.build.foreign import converter
from flowdistill.config.bind import ConfigError
from flowdistill.config.tiny import TINY_NETWORKS
from flowdistill.jobs import JOBS, convert, evaluate, generate
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import check_options, parse_options
from flowdistill.training import checkpoint
from flowdistill.workdir.record import write_record

SELDOM = 'ema_snapshots.every=20', 'checkpoint.every=60'


def options(job, *given):
  return parse_options(JOBS, job, [text.split('=', 1) for text in given])


@pytest.mark.parametrize(
  ('job', 'given', 'message'),
  [
    ('evaluate', ['ema=0.01'], '--ema=0.01 must be a width that can be'),
    ('generate', ['ema=0.01'], '--ema=0.01 must be a width that can be'),
    ('evaluate', ['weights=power:0.01'], '--weights=power:0.01 must be a wid'),
    ('audit', ['weights=power:0.01'], '--weights=power:0.01 must be a width'),
    ('audit', ['weights=power:x'], "--weights=power:x: 'power:x' must be"),
    ('generate', ['weights=powr'], '--weights=powr does not exist'),
    ('evaluate', ['ema=0.5'], '--ema=0.5 must lie between'),
    ('generate', ['ema=0'], '--ema=0.0 must lie between'),
    ('convert', ['to=a.npz', 'ema=1'], '--ema=1.0 must lie'),
    ('evaluate', ['ema=0.1,0.10'], '--ema must not have 0.1 twice'),
    (
      'evaluate',
      ['weights=power:0.1,power:0.10'],
      '--weights must not have power:0.1 twice',
    ),
    ('evaluate', ['ema='], '--ema= must be numbers with commas'),
    ('generate', ['ema='], '--ema= must be a number, like 0.1'),
    ('generate', ['ema=0.05,0.1'], '--ema=0.05,0.1 must be a number'),
    ('convert', ['to=a.npz', 'ema=x'], '--ema=x must be a number'),
    (
      'generate',
      ['ema=0.1', 'weights=ema'],
      '--ema must not be given with --weights',
    ),
    ('audit', ['ema=0.1'], 'an option of --job=evaluate and --job=generate'),
  ],
)
def test_options_that_are_refused_before_any_work(walk, job, given, message):
  with pytest.raises(ConfigError, match=message):
    check_options(options(job, *given), Blueprints.of_run(walk[0]), 'run')


def staged(name, *overrides):
  """A stage with snapshots, and one that starts from its weights `name`."""
  source = f"{{'source': 'stage:flow', 'weights': '{name}'}}"
  given = {'ema.main.sigma_rel': '0.05', 'ema_snapshots.every': '1'}
  return tiny.stages(
    tiny.TOY,
    *(f'stages.flow.{key}={value}' for key, value in given.items()),
    *overrides,
    f'stages.distil.init_from={source}',
    f'stages.distil.frozen.teacher={source}',
  )


@pytest.mark.parametrize(
  ('name', 'overrides', 'message'),
  [
    ('power:0.07', (), None),
    ('power:0.05', ('stages.flow.ema_snapshots.every=none',), None),
    ('power:0.3', (), r'distil\.init_from: .*sigma_rel = 0.3 must lie between'),
    (
      'power:0.07',
      ('stages.flow.ema_snapshots.every=none',),
      r"init_from: stage:flow: weights = 'power:0.07' must be an EMA that is "
      "tracked, for stage 'flow' keeps no snapshots .* take 'power:0.05'",
    ),
    (
      'power:0.07',
      (
        'stages.flow.ema_snapshots.every=none',
        "stages.flow.ema={'main': {'decay': 0.9}}",
      ),
      "must be reconstructed from EMAs of kind power, and stage 'flow' tracks "
      "none of the role 'student'; its weights are 'ema', 'params', 'main'",
    ),
    (
      'power:0.01',
      ('stages.flow.train.steps=300', 'stages.flow.ema_snapshots.every=50'),
      'from 5 snapshots .* before step 300 its profile would be off',
    ),
  ],
)
def test_a_later_stage_names_a_length(tmp_path, name, overrides, message):
  """It is checked before anything is trained."""
  specs = staged(name, *overrides)
  if message is None:
    tiny.check_here(specs, tmp_path)
    return
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(specs, tmp_path)


@pytest.fixture
def evaluated(walk, tmp_path):
  """The run, with evaluators."""
  workdir = tmp_path / 'run'
  shutil.copytree(walk[0], workdir)
  (workdir / 'config.json').unlink()
  specs = tiny.stages(SOURCE)
  blueprint = tiny.blueprint(specs['run'], workdir, workdir)
  write_record(workdir, specs['run'], {}, blueprint.data.actual)
  return workdir


def test_checkpoints_with_too_few_snapshots_are_left_out(evaluated, capsys):
  """Of several lengths, each where it can be reconstructed."""
  given = options('evaluate', 'ema=0.05,0.04', 'steps=:40')
  rows = evaluate.run(Blueprints.of_run(evaluated), given)
  learned = [row for row in rows if row['model'] == 'student']
  assert {(row['step'], row['weights']) for row in learned} == {
    (20, 'power:0.05'),
    (40, 'power:0.05'),
    (40, 'power:0.04'),
  }
  said = capsys.readouterr().out
  assert said.count('left out') == 1
  assert 'step 20 is left out: --weights=power:0.04 must be a width' in said


@pytest.mark.parametrize('job', ['evaluate', 'generate'])
@pytest.mark.parametrize('steps', ['20', ':20'])
def test_no_checkpoint_with_enough_snapshots_is_an_error(evaluated, job, steps):
  given = options(job, 'ema=0.04', f'steps={steps}')
  message = {
    '20': 'from 3 snapshots .* before step 20 its profile would be off by',
    ':20': '--steps=:20 --weights=power:0.04 must select a checkpoint with '
    'enough snapshots before it, and selects 1 with too few',
  }
  with pytest.raises(ConfigError, match=message[steps]):
    JOBS[job].run(Blueprints.of_run(evaluated), given)


def test_samples_are_of_the_checkpoints_with_enough_snapshots(
  evaluated, capsys
):
  given = 'ema=0.04', 'steps=all', 'samples=2', 'nfe=1', 'write=npz'
  folders = generate.run(
    Blueprints.of_run(evaluated), options('generate', *given)
  )
  assert [folder.name for folder in folders] == ['00000040', '00000060']
  assert capsys.readouterr().out.count('step 20 is left out') == 1


def test_each_length_is_a_row_that_names_it(evaluated):
  workdir = evaluated
  evaluate.run(Blueprints.of_run(workdir), options('evaluate', 'ema=0.05,0.07'))
  path = workdir / 'evaluations' / '00000060' / 'results.json'
  rows = json.loads(path.read_text())
  assert {row['weights']: row['ema'] for row in rows} == {
    'power:0.05': 'power(sigma_rel=0.05, dtype=float32)',
    'power:0.07': 'power(sigma_rel=0.07, snapshots=steps=5)',
  }


@pytest.mark.slow
def test_samples_of_a_length(walk, tmp_path):
  workdir, out = walk[0], tmp_path / 'out'
  given = ['ema=0.07', 'samples=4', 'nfe=1', 'write=npz', f'out={out}']
  generate.run(Blueprints.of_run(workdir), options('generate', *given))
  with np.load(out / 'samples.npz') as saved:
    found = saved['x0']
  run = flowdistill.load(workdir, weights='power:0.07')
  np.testing.assert_allclose(found, run.sample(4, nfe=1), rtol=1e-5)
  given[0] = 'ema=0.05'
  generate.run(Blueprints.of_run(workdir), options('generate', *given))
  with np.load(out / 'samples.npz') as saved:
    assert np.abs(found - saved['x0']).max() > 1e-3


@pytest.mark.slow
def test_a_length_is_written_as_weights_of_pytorch(tmp_path):
  tiny_one = {**TINY_NETWORKS['ncsnpp'], 'name': 'ncsnpp'}
  digits = {'name': 'digits', 'size': 8}
  workdir = tmp_path / 'run'
  walked(workdir, *SELDOM, f'network={tiny_one}', f'dataset={digits}')
  given = options('convert', f'to={tmp_path / "a.npz"}', 'ema=0.055')
  convert.run(Blueprints.of_run(workdir), given)
  ours = checkpoint.by_name(student(workdir, weights='power:0.055'))
  wanted = converter('ncsnpp').to_torch(jax.device_get(ours), 8)
  with np.load(tmp_path / 'a.npz') as saved:
    tiny.assert_same_bytes(wanted, dict(saved))
