"""Batches, exact maps and random times for jumps of any order."""

import jax.numpy as jnp
import numpy as np

from flowdistill.flow.transport import expand
from flowdistill.objectives.roles import Roles

N, DIMS = 32, 3


def batch(flow, n=N, dims=DIMS):
  generator = np.random.default_rng(0)
  x0 = np.stack([flow.draw(generator, n)[:, 0] for _ in range(dims)], axis=1)
  x1 = generator.normal(size=x0.shape)
  return {
    'x0': jnp.asarray(x0),
    'x1': jnp.asarray(x1),
    'cond': {'label': jnp.zeros(n)},
    'null': {'label': jnp.ones(n)},
  }


def exact(flow):
  """A student and an average that are the flow map of their teacher."""
  u = flow.average_velocity
  return Roles(student=u, ema=u, teacher=flow.velocity)


def apart(n=N):
  """Times of which s is at least 0.1 below t."""
  rng = np.random.default_rng(1)
  s = rng.uniform(0, 0.9, n)
  return jnp.asarray(s + 0.1 + rng.uniform(0, 0.9 - s)), jnp.asarray(s)


def drawn(data, t):
  """x_t and x1 − x0 under the coupling `paired`."""
  x0, x1, t = data['x0'], data['x1'], expand(t, data['x0'])
  return (1 - t) * x0 + t * x1, x1 - x0
