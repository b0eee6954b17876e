"""Checkpoints: exact to the byte, and which of them are kept."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from orbax.checkpoint import v1 as ocp
from training.states import (
  abstract,
  assert_identical,
  make_state,
)

from flowdistill.training import checkpoint, plain_path
from flowdistill.training.checkpoint import (
  CheckpointError,
  Checkpoints,
  completed_steps,
  restore,
)
from flowdistill.training.orbax_logging import reduce_logging

ONE = np.ones((), np.float32)


@pytest.mark.parametrize('step', [1, 2, None])
def test_a_state_comes_back_to_the_byte(saved, step):
  expected = make_state(step or 2)
  assert_identical(restore(saved, abstract(expected), step), expected)


def test_arrays_get_the_shardings_that_are_asked_for(saved):
  mesh = jax.make_mesh((1,), ('data',))
  sharding = jax.NamedSharding(mesh, jax.P())
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    make_state(0),
  )
  restored = restore(saved, wanted)
  assert all(x.sharding == sharding for x in jax.tree.leaves(restored))


def test_a_part_can_be_read_alone(saved):
  expected = make_state(2)
  part = dataclasses.replace(expected, opt_state=(), emas={}, odd={})
  assert_identical(restore(saved, abstract(part), partial=True), part)
  with pytest.raises(CheckpointError, match='differs is emas.* missing in the'):
    restore(saved, abstract(part))


def test_the_last_ones_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.latest() is None
    assert checkpoints.steps() == []
    for step in (1, 5, 20, 100):
      checkpoints.save(step, {'x': jnp.float32(step)})
      checkpoints.wait()
      assert checkpoints.latest() == step
    assert checkpoints.steps() == [20, 100]
    one = {'x': jax.ShapeDtypeStruct((), jnp.float32)}
    assert checkpoints.restore(one)['x'] == 100
    assert checkpoints.restore(one, 20)['x'] == 20
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    assert checkpoints.latest() == 100
    checkpoints.save(101, {'x': jnp.float32(101)})
  assert completed_steps(tmp_path) == [101]
  with pytest.raises(ValueError, match='keep = 0 must be at least 1'):
    Checkpoints(tmp_path, keep=0)


NAN = float('nan')


def test_the_best_and_every_fourth_stay_too(tmp_path):
  """A figure is known after its step is saved, or never; others are read."""
  later = {1: 5.0, 2: 1.0, 3: 3.0, 4: NAN, 5: 1.5, 7: 8.0, 9: 0.5, 10: 0.7}
  measured = {}

  def left(*steps):
    best = dict(measured)  # as another process reads it
    with Checkpoints(tmp_path, keep=1, every=4, best=best) as checkpoints:
      for step in steps:
        checkpoints.save(step, {'x': jnp.float32(step)})
        best.update({s: f for s, f in later.items() if s == step})
    measured.update(best)
    return completed_steps(tmp_path)

  assert left(1, 2) == [1, 2]
  assert left(3) == [2, 3]
  assert left(4, 5) == [2, 4, 5]
  assert left(6, 7) == [2, 4, 7]
  assert left(9) == [2, 4, 9]  # its figure came after
  assert left(10) == [4, 9, 10]
  assert left(11) == [4, 9, 11]


def test_without_figures_only_the_last_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2, best={}) as checkpoints:
    for step in range(1, 5):
      checkpoints.save(step, {'x': jnp.float32(step)})
  assert completed_steps(tmp_path) == [3, 4]


NAMES = [  # of a folder, all that some library takes for something else
  'lr[1e-3]',
  'a\\b',
  'a*',
  'a{b}?#%20',
  'gs:',
  'two words\nor lines',
  'größe',
  os.fsdecode(b'\xff'),
  '-x',
  '~',
]


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_a_folder_may_have_any_name(name, tmp_path):
  folder, state = tmp_path / name / 'x', {'x': jnp.arange(5)}
  other = tmp_path / 'ab' / 'x'  # a* would find it too
  for place, offset in ((other, 7), (folder, 0)):
    with Checkpoints(place, keep=2) as checkpoints:
      checkpoints.save(1, {'x': jnp.arange(5) + offset})
      checkpoints.save(2, {'x': jnp.arange(5) + offset + 1})
  assert completed_steps(folder) == [1, 2]
  assert_identical(restore(folder, abstract(state), 1), state)
  with pytest.raises(CheckpointError, match='does not fit') as error:
    restore(folder, {'y': jax.ShapeDtypeStruct((), jnp.int32)})
  assert str(folder) in str(error.value)


def test_a_path_that_has_no_other_name_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(plain_path, 'OPEN_FILES', tmp_path / 'none')
  with pytest.raises(OSError, match=r"\[x' must have only letters"):
    Checkpoints(tmp_path / '[x', keep=1)
  Checkpoints(tmp_path / 'x', keep=1).close()


def test_the_first_checkpoint_is_read_back(tmp_path, monkeypatch):
  """From a disk, here from Orbax, that gives back other bytes."""
  folder, load = tmp_path / 'run', ocp.load
  states = {3: {'x': jnp.zeros(())}, 4: {'a': jnp.array(np.nan), 'b': ONE}}
  monkeypatch.setattr(checkpoint, 'AT_ONCE', 1)
  with Checkpoints(folder, keep=2) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(
        ocp, 'load', lambda *a, **k: jax.tree.map(lambda x: -x, load(*a, **k))
      )
      for step, name in ((3, 'x'), (4, 'a')):  # −0 and −nan are other bytes
        message = rf'checkpoint, {folder}/{step}, did .* \({name} has other'
        with pytest.raises(OSError, match=message):
          checkpoints.save(step, states[step])
        assert checkpoints.steps() == []
  with Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(4, states[4])
    monkeypatch.setattr(ocp, 'load', None)
    checkpoints.save(5, states[4])  # not read back
  assert completed_steps(folder) == [4, 5]


def test_a_step_is_saved_once(copied):
  with Checkpoints(copied, keep=3) as checkpoints:
    checkpoints.save(2, {'x': jnp.ones(())})
  assert_identical(restore(copied, abstract(make_state(2))), make_state(2))


def test_arrays_may_be_donated_right_after_save(tmp_path):
  overwrite = jax.jit(
    lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0
  )
  state = [jnp.full((256, 1024), k, jnp.float32) for k in range(16)]
  wanted = abstract(state)
  with Checkpoints(tmp_path, keep=9) as checkpoints:
    for step in range(3):
      expected = jax.tree.map(np.array, state)
      checkpoints.save(step, state)
      state = jax.block_until_ready(overwrite(state))
      checkpoints.wait()
      assert_identical(checkpoints.restore(wanted), expected)
      state = jax.tree.map(lambda x, step=step: x + step + 2, state)


def test_paths_must_differ(tmp_path):
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    with pytest.raises(ValueError, match='the same path'):
      checkpoints.save(1, {'a': {'b': jnp.ones(1)}, 'a.b': jnp.ones(1)})


def test_orbax_is_quiet_and_we_are_not(tmp_path, caplog):
  reduce_logging()
  caplog.set_level('INFO', logger='absl')
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, {'x': jnp.ones(2)})
  assert caplog.records == []
  logging.info('ours')
  assert [record.message for record in caplog.records] == ['ours']
