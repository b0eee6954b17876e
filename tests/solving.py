"""Runs a sampler on a flow, and takes one step of it apart."""

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.samplers.integrate import sample
from flowdistill.samplers.sampler import fresh_noise

LINE = np.linspace(-2.5, 2.5, 11)[:, None]


def keys(n: int):
  return jax.random.split(jax.random.key(0), n)


def solve(sampler, grid, x1=None):
  """x at the end of a grid, from x1 [b, ...] or the points of LINE."""
  x1 = jnp.asarray(LINE if x1 is None else x1)
  return sample(sampler, grid, x1, keys(len(x1)))


def linear_step(sampler, t: float, s: float):
  """(a, b) of x_s = a x_t + b ε, for a network that is linear in x."""
  t, s = jnp.asarray(t), jnp.asarray(s)
  noise = fresh_noise(keys(1), jnp.zeros((1, 1)))

  def step(x):
    carry = sampler.init(jnp.full((1, 1), x), t)
    return sampler.step(carry, t, s, keys(1))[0]

  added = step(0.0)
  return (step(1.0) - added).squeeze(), (added / noise).squeeze()
