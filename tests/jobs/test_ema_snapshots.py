"""Snapshots of power EMAs, and any length of them in every job."""

import dataclasses
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import hosts, tiny
from training.test_ema_profiles import weights as shares

import flowdistill
from flowdistill.build.foreign import converter
from flowdistill.config.bind import ConfigError
from flowdistill.config.tiny import TINY_NETWORKS
from flowdistill.jobs import JOBS, convert, evaluate, generate
from flowdistill.stages import hooks
from flowdistill.stages.assembly import fresh_state, sampling_layout
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import check_options, parse_options
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import (
  CheckpointError,
  Checkpoints,
  completed_steps,
)
from flowdistill.training.ema_snapshots import snapshot
from flowdistill.workdir.record import write_record

SOURCE = tiny.CONFIGS.parent / 'tests' / 'jobs' / 'averaged.py'
QUIET = 'evaluators={}', 'evaluation.batch_size=32'
SELDOM = 'ema_snapshots.every=20', 'checkpoint.every=60'
STEPS = 60


def flat(params):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])


def student(workdir, **which):
  return flowdistill.load(workdir, **which).models['student'].params


def apart(found, exact):
  return np.linalg.norm(flat(found) - exact) / np.linalg.norm(exact)


def walked(workdir, *overrides, bend=1.0):
  """A run whose parameters walk randomly; returns them, [updates, n]."""
  specs = tiny.stages(SOURCE, *QUIET, *overrides)
  assembly = tiny.assembled(specs['run'], workdir, workdir)
  blueprint = assembly.blueprint
  write_record(workdir, blueprint.spec, {}, blueprint.data.actual)
  state = fresh_state(assembly)
  role = state.roles['student']
  size = len(flat(role.params))
  rng = np.random.default_rng(0)
  path = 5 + bend * np.cumsum(rng.standard_normal((STEPS, size)), 0)
  emas = blueprint.learners['student'].learns.emas

  def tree(x):
    leaves, structure = jax.tree.flatten(role.params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(np.float32(x), ends)
    return jax.tree.unflatten(
      structure,
      [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)],
    )

  saved = Checkpoints(workdir / 'checkpoints', keep=9)
  kept = hooks.open_snapshots(blueprint, 0, assembly.layout)
  act = hooks.Hooks(assembly, saved, kept, {}, None, None, None, None)
  with saved, kept:
    for step in range(1, STEPS + 1):
      due = [do for n, do in act.actions if n and step % n == 0]
      for do in due:
        means = {
          name: tree(shares(ema.sigma_rel, step, STEPS) @ path)
          for name, ema in emas.items()
        }
        own = dataclasses.replace(role, params=tree(path[step - 1]), emas=means)
        now = {'step': np.int32(step), 'roles': {'student': own}}
        now = dataclasses.replace(state, **now)
        do(step, jax.tree.map(jnp.asarray, now))
  return path


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('walk')
  return workdir, walked(workdir)


def exact(path, sigma_rel, step):
  return shares(sigma_rel, step, STEPS) @ path


def test_snapshots_are_kept_and_checkpoints_are_not_disturbed(walk):
  workdir, _ = walk
  assert completed_steps(workdir / 'ema_snapshots') == [*range(5, 61, 5)]
  assert completed_steps(workdir / 'checkpoints') == [20, 40, 60]


@pytest.mark.parametrize('step', [40, 60])
@pytest.mark.parametrize('sigma_rel', [0.04, 0.07, 0.15])
def test_any_length_is_that_of_the_definition(walk, sigma_rel, step):
  """Against the brute-force power EMA of a random walk."""
  workdir, path = walk
  found = student(workdir, weights=f'power:{sigma_rel}', step=step)
  assert {x.dtype.name for x in jax.tree.leaves(found)} == {'float32'}
  assert apart(found, exact(path, sigma_rel, step)) < 0.01


def test_a_tracked_length_is_the_tracked_ema(walk):
  workdir, _ = walk
  for which, name in (('power:0.05', 'ema'), ('power:0.10', 'wide')):
    ours, theirs = (student(workdir, weights=w) for w in (which, name))
    assert flat(ours).tobytes() == flat(theirs).tobytes()


def test_constant_weights_stay_so(tmp_path):
  walked(tmp_path, *SELDOM, bend=0.0)
  found = flat(student(tmp_path, weights='power:0.055'))
  np.testing.assert_allclose(found, 5, rtol=1e-6)


def test_the_step_counts_updates_of_the_role(walk):
  workdir, path = walk
  run = flowdistill.load(workdir, weights='power:0.07', step=60).at(40)
  found = run.models['student'].params
  assert apart(found, exact(path, 0.07, 40)) < 0.01


REFUSED = {
  'power:0.01': 'reconstructed: from 11 snapshots .* before step 60 its '
  r'profile would be off by \d+\.\d%; the nearest is power:0.03',
  'power:0.27': 'the nearest is power:0.19',
  'power:0.5': 'sigma_rel = 0.5 must lie between',
  'power:0.2887': 'sigma_rel = 0.2887 must lie between 1e-06 and 0.2887',
  'power:0': 'sigma_rel = 0.0 must lie between',
  'power:-0.1': 'sigma_rel = -0.1 must lie between',
  'power:nan': 'sigma_rel = nan must lie between',
  'power:1e999': 'sigma_rel = inf must lie between',
  'power:x': "'power:x' must be power: and a relative width, such as power:0.1",
  'power:': "'power:' must be power: and a relative width",
  'power:٠.١': 'must be power: and a relative width',
  'power:0.05,0.1': 'must be power: and a relative width',
  'Power:0.05': "has no weights 'Power:0.05'",
  'power': "has no weights 'power'",
  'half_life:0.1': "has no weights 'half_life:0.1'",
}


@pytest.mark.parametrize(('name', 'message'), REFUSED.items())
def test_what_cannot_be_reconstructed_is_named(walk, name, message):
  with pytest.raises(ConfigError, match=message):
    flowdistill.load(walk[0], weights=name)


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


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ["ema={'main': {'decay': 0.9}}"],
      'ema_snapshots.every has no effect: there is no EMA of kind power',
    ),
    (
      ['ema={}'],
      'ema_snapshots.every has no effect: there is no EMA of kind power',
    ),
    (
      ['ema_snapshots.every=61'],
      'every has no effect: 61 steps are more than the 60 of the stage',
    ),
    (['ema_snapshots.every=0'], 'ema_snapshots.every = 0 steps must be at'),
    (['ema_snapshots.every=-5'], 'ema_snapshots.every: a length must be'),
    (['ema_snapshots.every=2.5'], 'ema_snapshots.every: a length must be'),
    (['ema_snapshots.every=often'], 'ema_snapshots.every: a length must be'),
    (["ema_snapshots.every={'hours': 1}"], 'every: a length must be a dict'),
    (['ema_snapshots.dtype=bfloat16'], "dtype = 'bfloat16' must be 'float16'"),
    (['ema_snapshots.dtype=int8'], "dtype = 'int8' must be 'float16' or"),
    (
      ['ema_snapshots.every=none', 'ema_snapshots.dtype=float32'],
      'ema_snapshots.dtype has no effect: no snapshots are kept',
    ),
    (['ema_snapshots.evry=5'], "has no key 'evry'; did you mean 'every'"),
    (['ema_snapshots=5'], 'ema_snapshots = 5 .* must be a dict'),
  ],
)
def test_sections_that_are_refused(tmp_path, overrides, message):
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(SOURCE, *QUIET, *overrides), tmp_path)


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


@pytest.mark.parametrize('damage', ['renamed', 'truncated', 'gone'])
def test_a_snapshot_that_is_damaged_is_named(walk, tmp_path, damage):
  workdir = tmp_path / 'run'
  shutil.copytree(walk[0], workdir)
  folder = workdir / 'ema_snapshots'
  if damage == 'renamed':
    shutil.rmtree(folder / '50')
    (folder / '45').rename(folder / '50')
  elif damage == 'truncated':
    files = [p for p in (folder / '55').rglob('*') if p.is_file()]
    max(files, key=lambda p: p.stat().st_size).write_bytes(b'')
  else:
    shutil.rmtree(folder)
  said = {
    'renamed': f'the snapshot {folder}/50 is of step 45: it was renamed',
    'truncated': f'{folder}/55 cannot be read',
    'gone': 'from 0 snapshots .* before step 60 its profile would be off',
  }
  with pytest.raises((CheckpointError, ConfigError), match=said[damage]):
    student(workdir, weights='power:0.04')


def test_weights_beyond_float16_are_named(tmp_path):
  walked(tmp_path, *SELDOM, bend=1e5)
  with pytest.raises(ConfigError, match='where weights exceed 65504'):
    student(tmp_path, weights='power:0.055')


def test_snapshots_of_later_steps_are_removed(walk, tmp_path):
  """Those of a run that was longer, or began anew."""
  workdir = tmp_path / 'run'
  shutil.copytree(walk[0], workdir)
  blueprint = Blueprints.of_run(workdir)['run']
  layout = sampling_layout(blueprint)
  with hooks.open_snapshots(blueprint, 40, layout):
    pass
  assert completed_steps(workdir / 'ema_snapshots') == [*range(5, 41, 5)]


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


def kept_arrays(workdir, dtype='float16'):
  """Every array of every snapshot, by step and name."""
  blueprint = Blueprints.of_run(workdir)['run']
  profiles = {'student': {'main': 0.05, 'wide': 0.1}}
  tree = jax.eval_shape(lambda s: snapshot(s, profiles, dtype), blueprint.state)
  folder = workdir / 'ema_snapshots'
  return {
    f'{step} {name}': array
    for step in completed_steps(folder)
    for name, array in checkpoint.by_name(
      checkpoint.restore(folder, tree, step)
    ).items()
  }


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run that was not disturbed."""
  workdir = tmp_path_factory.mktemp('trained')
  tiny.train_here(workdir, SOURCE, *QUIET)
  return workdir


@pytest.mark.slow
def test_a_run_that_tracks_the_length_has_the_same_weights(trained, tmp_path):
  """Tracking more EMAs changes nothing else, so it gives the truth."""
  tiny.train_here(tmp_path, f'{SOURCE}:more', *QUIET)
  for sigma_rel, name in ((0.04, 'narrow'), (0.15, 'wider')):
    truth = flat(student(tmp_path, weights=name))
    found = student(trained, weights=f'power:{sigma_rel}')
    assert apart(found, truth) < 0.001
    other = student(trained, weights='params')
    assert apart(other, truth) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_keeps_the_same_snapshots(
  trained, tmp_path, number
):
  """In the middle of a save, and before the checkpoint after it."""
  folder = tmp_path / 'ema_snapshots'

  def ready():
    return completed_steps(folder) and completed_steps(folder)[-1] >= 35

  process = tiny.start(tmp_path, SOURCE, *QUIET)
  tiny.send_when(process, ready, number)
  assert completed_steps(folder)[-1] < 60
  output = tiny.start(tmp_path, SOURCE, *QUIET).communicate(timeout=120)[0]
  assert completed_steps(folder) == [*range(5, 61, 5)], output
  tiny.assert_same_bytes(kept_arrays(trained), kept_arrays(tmp_path))


@pytest.mark.slow
def test_a_run_that_is_made_longer_has_those_of_its_first_part(tmp_path):
  tiny.train_here(tmp_path, SOURCE, *QUIET, 'train.steps=30')
  before = kept_arrays(tmp_path)
  tiny.train_here(tmp_path, SOURCE, *QUIET, 'train.steps=40')
  after = kept_arrays(tmp_path)
  assert completed_steps(tmp_path / 'ema_snapshots') == [*range(5, 41, 5)]
  tiny.assert_same_bytes(before, {name: after[name] for name in before})


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2])
def test_two_devices_keep_what_one_does(trained, tmp_path, count):
  """Also on two hosts; another mesh reads them."""
  more = [f'--config.{text}' for text in (*QUIET, 'mesh.fsdp=2')]
  ended = hosts.end_all(
    hosts.start_all(tmp_path, SOURCE, *more, count=2)
    if count == 2
    else [hosts.start(tmp_path, SOURCE, 2, *more)]
  )
  assert not any(code for code, *_ in ended), ended
  one, two = kept_arrays(trained), kept_arrays(tmp_path)
  assert list(one) == list(two)
  for name, array in one.items():
    np.testing.assert_allclose(array, two[name], rtol=0.01, atol=1e-3)
  ours, theirs = (student(w, weights='power:0.07') for w in (trained, tmp_path))
  np.testing.assert_allclose(flat(ours), flat(theirs), rtol=0.01, atol=1e-3)


@pytest.mark.slow
def test_a_later_stage_starts_from_a_length(trained, tmp_path):
  source = f"{{'source': '{trained}', 'weights': 'power:0.07'}}"
  overrides = [*QUIET, f'init_from={source}', 'train.steps=1']
  specs = tiny.stages(SOURCE, *overrides, 'ema_snapshots.every=none')
  state = fresh_state(tiny.assembled(specs['run'], tmp_path, tmp_path))
  wanted = flat(student(trained, weights='power:0.07'))
  assert flat(state.roles['student'].params).tobytes() == wanted.tobytes()
