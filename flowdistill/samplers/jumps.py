"""Samplers that jump: they ask a flow map's average velocity u(x_t, t, s)."""

import math

import jax

from flowdistill.samplers.sampler import (
  AverageVelocity,
  Sampler,
  at_scalar_times,
  one_state,
)

Array = jax.Array


def flow_map(u: AverageVelocity) -> Sampler:
  """x_s = x_t + (s − t) u(x_t, t, s). One call a step.

  Source: Boffi, Albergo, Vanden-Eijnden, "Flow Map Matching" (2024),
  https://arxiv.org/abs/2406.07507.
  """
  u = at_scalar_times(u)
  return one_state(
    lambda x, t, s, keys: x + (s - t) * u(x, t, s), nfe=lambda steps: steps
  )


def gamma(u: AverageVelocity, *, gamma: float = 0.5) -> Sampler:
  """Jumps below s, then adds noise up to s. One call a step.

  With σ(t) = t / (1 − t) the noise level of time t: jump to the time r where
  σ(r) = √(1 − γ²) σ(s), and add the rest,

    x̃ = f(x_t, t, r),  x_s = (1 − s) [x̃ / (1 − r) + γ σ(s) ε].

  With k = √(1 − γ²) and m = 1 − (1 − k) s this is r = k s / m and
  x_s = m x̃ + γ s ε, which is finite for every s. It preserves the marginals
  for an exact flow map. γ = 0 is `flow_map`, γ = 1 the multistep sampling of
  consistency models.

  Source: Kim et al., "Consistency Trajectory Models" (2023),
  https://arxiv.org/abs/2310.02279, Algorithm 3, in the time of this project.
  Which form and which γ Align Your Flow uses is unconfirmed.

  Args:
    u: the average velocity.
    gamma: γ in [0, 1], how much of the noise at s is fresh.

  Raises:
    ValueError: if γ is outside [0, 1].
  """
  if not 0 <= gamma <= 1:
    raise ValueError(f'gamma is {gamma}, it must lie in [0, 1]')
  u, k = at_scalar_times(u), math.sqrt(1 - gamma**2)

  def step(x: Array, t: Array, s: Array, keys: Array) -> Array:
    m = 1 - (1 - k) * s
    r = k * s / m
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))
    return m * (x + (r - t) * u(x, t, r)) + gamma * s * noise(keys)

  return one_state(step, nfe=lambda steps: steps)
