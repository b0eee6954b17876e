"""Snapshots of power EMAs: which are kept, and what they are."""

import shutil
import signal

import jax
import numpy as np
import pytest
from jobs import hosts, tiny
from jobs.walks import QUIET, SOURCE, STEPS, flat, student, walked
from training.test_ema_profiles import weights as shares

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.stages import hooks
from flowdistill.stages.assembly import fresh_state, sampling_layout
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import (
  CheckpointError,
  completed_steps,
)
from flowdistill.training.ema_snapshots import snapshot

SELDOM = 'ema_snapshots.every=20', 'checkpoint.every=60'


def apart(found, exact):
  return np.linalg.norm(flat(found) - exact) / np.linalg.norm(exact)


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
