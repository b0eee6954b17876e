"""The option `tangent`: networks with a kernel that refuses jvp learn too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import bind, options
from flowdistill.config.resolve import resolve
from flowdistill.flow.tangent import TANGENTS
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Objective, Roles

KEY = jax.random.key(0)
FLOW = Gaussian(0.5)
WITH_TANGENT = [n for n, f in OBJECTIVES.items() if 'tangent' in options(f)]


@jax.custom_vjp
def fused(x):
  """Stands for a kernel with a gradient of its own, and no jvp."""
  return jnp.tanh(x)


fused.defvjp(
  lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, g: ((1 - y**2) * g,)
)


def init(width=32):
  keys = jax.random.split(KEY, 2)
  shapes = {'first': (4, width), 'last': (width, 2)}
  return {
    name: jax.random.normal(key, shape) / shape[0] ** 0.5
    for key, (name, shape) in zip(keys, shapes.items(), strict=True)
  }


def mean_loss(objective, params, activation, **given):
  def u(x, t, s, cond):
    inputs = jnp.concatenate([x, t[:, None], s[:, None]], axis=1)
    return activation(inputs @ params['first']) @ params['last']

  batch = {'x0': FLOW.std * jax.random.normal(KEY, (64, 2))}
  nets = Roles(student=u, ema=u, teacher=FLOW.velocity)
  batch = {**batch, 'cond': {}, 'null': {}}
  return jnp.mean(objective(nets, batch, KEY, 10**6, **given)[0])


def test_these_objectives_take_a_tangent():
  assert WITH_TANGENT == [
    'ayf_emd',
    'ayf_lmd',
    'scm',
    'mean_flow',
    'improved_mean_flow',
    'tvm',
    'facm',
  ]


@pytest.mark.parametrize('name', WITH_TANGENT)
def test_differences_pass_a_kernel_that_refuses_jvp(name):
  """In float32, with the gradient of jvp where that goes through."""

  def slope(activation, tangent):
    return jax.grad(
      lambda p: mean_loss(
        OBJECTIVES[name], p, activation, tangent=TANGENTS[tangent]
      )
    )(init())

  with pytest.raises((NotImplementedError, TypeError), match='custom_'):
    slope(fused, 'jvp')
  exact, found = slope(jnp.tanh, 'jvp'), slope(fused, 'difference')
  for one, other in zip(*map(jax.tree.leaves, (exact, found)), strict=True):
    error = np.linalg.norm(one - other) / np.linalg.norm(one)
    assert error < 2e-3


def test_a_network_that_refuses_jvp_trains():
  """By the name in a config; the loss is the squared residual at p = 0."""
  spec = {
    'name': 'mean_flow',
    'tangent': {'name': 'difference', 'epsilon': 0.01},
    'distil': True,
    'p': 0.0,
  }
  where = 'objective'
  resolved = resolve(spec, Objective, where, ROOMS)
  objective = bind(resolved, Objective, where, ROOMS)

  @jax.jit
  def losses(params):
    def step(params, _):
      loss, slope = jax.value_and_grad(
        lambda p: mean_loss(objective, p, fused)
      )(params)
      return jax.tree.map(lambda p, g: p - 0.05 * g, params, slope), loss

    return jax.lax.scan(step, params, length=300)[1]

  found = losses(init())
  assert found[-1] < 0.1 * found[0]
