"""Every network takes steps with every objective.

An objective runs operation by operation, around a network that is jitted once
for all of them and hardly optimised: a step compiled for each of the pairs
would take minutes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import NAMES, changed

from flowdistill.config.tiny import TINY_NETWORKS
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks import NETWORKS
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Roles

BATCH, CLASSES, RATE = 4, 3, 1e-4
GAN = 'adversarial', 'relativistic'  # see tests/jobs/test_adversarial.py


TOKENS = {
  'tokens': Condition((3,), 'int32', CLASSES),
  'mask': Condition((3,), 'bool', False),
}


@functools.cache
def built(name, *, text=False):
  """(spec, u(params, x_t, t, s, cond, key), params) of a tiny network."""
  shape = (2,) if name == 'mlp' else (4, 4, 1)
  spec, rng = DataSpec.labelled(shape, CLASSES), np.random.default_rng(0)
  spec = DataSpec(shape, TOKENS) if text else spec
  graph, params = nnx.split(
    nnx.eval_shape(
      lambda: NETWORKS[name](spec, **TINY_NETWORKS[name], rngs=nnx.Rngs(0))
    )
  )

  def drawn(path, w):
    return (0.3 * rng.normal(size=w.shape)).astype(np.float32)

  @jax.jit
  def u(params, x_t, t, s, cond, key):
    return nnx.merge(graph, params)(x_t, t, s, cond, key=key)

  return spec, u, changed(params, drawn)


def make_roles(u, params, frozen, key):
  """The networks as an objective sees them, all of one architecture."""

  def average(params, key):
    def call(x_t, t, s, cond):
      # Whatever is differentiated, all three are: so there are few programs.
      zero = 0 * (x_t.sum() + t.sum() + s.sum())
      return u(params, x_t + zero, t + zero, s + zero, cond, key)

    return call

  def velocity(x_t, t, cond):
    return average(frozen, None)(x_t, t, t, cond)

  return Roles(
    student=average(params, key),
    ema=average(frozen, None),
    teacher=velocity,
    weak=velocity,
  )


@pytest.mark.parametrize('objective', [n for n in OBJECTIVES if n not in GAN])
@NAMES
def test_every_network_takes_two_steps_with_every_objective(name, objective):
  label = np.arange(BATCH) % CLASSES
  take_two_steps(*built(name), objective, {'label': label.astype(np.int32)})


@pytest.mark.slow
@pytest.mark.parametrize('objective', [n for n in OBJECTIVES if n not in GAN])
@pytest.mark.parametrize('name', ['dit', 'mmdit'])
def test_networks_of_text_take_two_steps_with_every_objective(name, objective):
  tokens = np.array([[0, 1, 2], [2, 3, 3], [1, 0, 3], [3, 3, 3]], np.int32)
  cond = {'tokens': tokens, 'mask': tokens < CLASSES}
  take_two_steps(*built(name, text=True), objective, cond)


def take_two_steps(spec, u, first, objective, cond):
  rng = np.random.default_rng(1)
  x0, x1 = rng.normal(size=(2, BATCH, *spec.shape)).astype(np.float32)
  batch = spec.batch({'x0': x0, 'x1': x1, **cond})
  batch = jax.tree.map(jnp.asarray, batch)

  def mean_loss(params, step):
    key = jax.random.key(step)
    nets = make_roles(u, params, first, key)
    loss, _ = OBJECTIVES[objective](nets, batch, key, jnp.asarray(step))
    assert loss.shape == (BATCH,)
    return loss.mean()

  params = first
  for step in range(2):
    loss, grads = jax.value_and_grad(mean_loss)(params, step)
    assert np.isfinite(loss)
    before = params
    params = jax.tree.map(lambda w, g: w - RATE * g, params, grads)
    leaves = list(zip(*map(jax.tree.leaves, (params, before)), strict=True))
    assert all(np.isfinite(new).all() for new, _ in leaves)
    moved = [bool(np.any(new != old)) for new, old in leaves]
    assert np.mean(moved) > 0.7  # e₂ has no gradient where s = t
