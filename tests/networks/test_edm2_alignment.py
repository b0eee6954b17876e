"""A student of EDM2 that embeds t, aligned with a teacher that embeds ln(σ)/4.

By the objective and the pattern of the stage `align` of configs/ayf/stages.py:
only the layer after the Fourier features of the time learns, and MeanFlow with
s = t regresses the teacher's velocity. (Training also scales every weight to
magnitude 1 after a step, which does not change the network.)
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks.tiny import SHAPES, run, trained

from flowdistill.flow.times import sorted_uniform
from flowdistill.objectives.mean_flow import mean_flow
from flowdistill.objectives.roles import Roles
from flowdistill.training.named_arrays import by_name
from flowdistill.training.optim import make_optimiser

STEPS, BATCH = 400, 64
TIMES = functools.partial(sorted_uniform, instant=1.0)
INSIDE = jnp.linspace(0.05, 0.95, 64)


def examples(n, seed):
  x0 = np.random.default_rng(seed).normal(size=(n, *SHAPES['edm2'])) / 2
  label = np.random.default_rng(seed).integers(0, 5, n)
  return {
    'x0': jnp.asarray(x0, jnp.float32),
    'cond': {'label': jnp.asarray(label, jnp.int32)},
  }


@pytest.fixture(scope='module')
def aligned():
  """(teacher, student, its weights before and after)."""
  teacher, params = trained('edm2', time='edm')
  student, _ = trained('edm2', time='linear')
  tx = make_optimiser(optax.adam(1e-2), only='noise.*')

  def loss(weights, batch, key):
    nets = Roles(
      student=functools.partial(run, student, weights),
      teacher=lambda x, t, cond: run(teacher, params, x, t, t, cond),
    )
    each, _ = mean_flow(
      nets, batch, key, jnp.int32(0), times=TIMES, distil=True, p=0.0
    )
    return jnp.mean(each)

  @jax.jit
  def step(weights, state, batch, key):
    updates, state = tx.update(jax.grad(loss)(weights, batch, key), state)
    return optax.apply_updates(weights, updates), state

  weights, state = params, tx.init(params)
  for i in range(STEPS):
    key = jax.random.key(i)
    weights, state = step(weights, state, examples(BATCH, i), key)
  return (teacher, params), (student, params), (student, weights)


def answers(network, t):
  """(velocity, its derivative in t) at the same points."""
  batch = examples(len(t), STEPS)
  noise = jax.random.normal(jax.random.key(STEPS), batch['x0'].shape)
  at = t[:, None, None, None]
  x = (1 - at) * batch['x0'] + at * noise
  return jax.jvp(
    lambda t: run(*network, x, t, t, batch['cond']), (t,), (jnp.ones_like(t),)
  )


@pytest.mark.slow
def test_only_the_layer_of_the_time_learns(aligned):
  _, before, after = aligned
  before, after = by_name(before[1]), by_name(after[1])
  moved = {n for n in before if (before[n] != after[n]).any()}
  assert moved
  assert all(name.startswith('noise.') for name in moved)


@pytest.mark.slow
def test_it_then_answers_like_its_teacher(aligned):
  wanted, before, after = (answers(net, INSIDE)[0] for net in aligned)
  far, near = (jnp.linalg.norm(v - wanted) for v in (before, after))
  assert near < far / 4


@pytest.mark.slow
def test_its_derivative_in_time_does_not_explode_at_the_data(aligned):
  """The teacher's is about that of ln(σ) / 4, so 1 / (4 t)."""
  times = jnp.array([0.0025, 0.05])
  teacher, _, student = (
    jnp.abs(answers(net, times)[1]).max(axis=(1, 2, 3)) for net in aligned
  )
  assert teacher[0] > 4 * student[0]
  assert student[0] < 2 * student[1]
