"""Samplers that jump: they call a flow map's average velocity u(x_t, t, s)."""

import jax
import jax.numpy as jnp

from flowdistill.flow.transport import below, check_gamma
from flowdistill.samplers.sampler import (
  AverageVelocity,
  Sampler,
  at_times,
  fresh_noise,
  one_state,
)

Array = jax.Array


def flow_map(u: AverageVelocity) -> Sampler:
  """x_s = x_t + (s − t) u(x_t, t, s). One call a step.

  Source: Boffi, Albergo, Vanden-Eijnden, "Flow Map Matching" (2024),
  https://arxiv.org/abs/2406.07507.
  """
  u = at_times(u)
  return one_state(lambda x, t, s, keys: x + (s - t) * u(x, t, s), jumps=True)


def consistency(u: AverageVelocity) -> Sampler:
  """Jumps to the data and adds fresh noise up to s. One call a step.

    x̂ = f(x_t, t, 0),  x_s = (1 − s) x̂ + s ε.

  It calls the average velocity with s = 0 alone, so a consistency model is
  enough, and preserves the marginals for an exact one. In the paper x̂ is at the
  smallest noise level σ_min, whose variance is missing from the fresh noise;
  here it is at 0.

  Source: Song et al., "Consistency Models" (2023),
  https://arxiv.org/abs/2303.01469, Algorithm 1, in the time of this project.
  """
  return gamma(u, gamma=1.0)


def gamma(u: AverageVelocity, *, gamma: float = 0.5) -> Sampler:
  """Jumps below s, then adds noise up to s. One call a step.

  With σ(t) = t / (1 − t) the noise level of time t: jump to the time r where
  σ(r) = √(1 − γ²) σ(s), and add the rest,

    x̃ = f(x_t, t, r),  x_s = (1 − s) [x̃ / (1 − r) + γ σ(s) ε].

  which is x_s = m x̃ + γ s ε with r and m of `transport.below`. It preserves the
  marginals for an exact flow map. γ = 0 is `flow_map`, γ = 1 is `consistency`.

  Source: Kim et al., "Consistency Trajectory Models" (2023),
  https://arxiv.org/abs/2310.02279, Algorithm 3, in the time of this project.
  Which form and which γ Align Your Flow uses is unconfirmed; the other one is
  `jump_renoise`.

  Args:
    u: the average velocity.
    gamma: γ in [0, 1], how much of the noise at s is fresh.

  Raises:
    ValueError: if γ is outside [0, 1].
  """
  check_gamma(gamma)
  u = at_times(u)

  def step(x: Array, t: Array, s: Array, keys: Array) -> Array:
    r, m = below(s, gamma)
    return m * (x + (r - t) * u(x, t, r)) + gamma * s * fresh_noise(keys, x)

  return one_state(step, jumps=True)


def jump_renoise(u: AverageVelocity, *, gamma: float = 0.5) -> Sampler:
  """Jumps to (1 − γ) s, then adds noise up to s. One call a step.

    r = (1 − γ) s,  x̃ = f(x_t, t, r),  k = (1 − s) / (1 − r),
    x_s = k x̃ + √(s² − k² r²) ε.

  k x̃ = (1 − s) x0 + k r x1, and the coefficient of the noise has to be s. It
  preserves the marginals for an exact flow map. γ = 0 is `flow_map`,
  γ = 1 is `consistency`; between them it is `gamma` with another r.

  Source: Zheng et al., "Trajectory Consistency Distillation" (2024),
  https://arxiv.org/abs/2402.19159, "strategic stochastic sampling"; there γ is
  a share of the time of a diffusion, here of s.

  Args:
    u: the average velocity.
    gamma: γ in [0, 1], how far below s it jumps.

  Raises:
    ValueError: if γ is outside [0, 1].
  """
  check_gamma(gamma)
  u = at_times(u)

  def step(x: Array, t: Array, s: Array, keys: Array) -> Array:
    r = (1 - gamma) * s
    k = (1 - s) / (1 - r)
    added = jnp.sqrt((s - k * r) * (s + k * r))  # no rounding below 0
    return k * (x + (r - t) * u(x, t, r)) + added * fresh_noise(keys, x)

  return one_state(step, jumps=True)
