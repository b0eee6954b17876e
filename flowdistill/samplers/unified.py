"""The sampler of UCGM and TwinFlow in its three styles: few, any and mul.

With F = u(x_t, t, r) it predicts data and noise, and mixes them at s,

  x̂ = x_t − t F,  ẑ = x_t + (1 − t) F,
  x_s = (1 − s) x̂ + s (√(1 − ρ) ẑ + √ρ ε).

The style is the target time r of the network: 0 (`few`, a consistency model),
s (`any`, a flow map) or t (`mul`, a velocity).

Source: Sun et al., "Unified Continuous Generative Models" (2025),
https://arxiv.org/abs/2505.07447 (UCGM-S); Cheng et al., "TwinFlow" (2025),
https://arxiv.org/abs/2512.05150.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flowdistill.samplers.sampler import (
  AverageVelocity,
  Carry,
  Sampler,
  at_both_ends,
  at_starts,
  at_times,
  fresh_noise,
)

Array = jax.Array
Predict = Callable[[Array, Array, Array], Array]
"""F(x_t, t, s), with the target time of the style."""


def few(
  u: AverageVelocity,
  *,
  stochasticity: float | str = 1.0,
  extrapolation: float = 0.0,
) -> Sampler:
  """Always predicts the jump to the data, r = 0. One call a step.

  ρ = 1 is `consistency`. With less, ẑ is the noise that follows from x̂ and x_t,
  not that of the flow, so the marginals are wrong even if u is exact.

  Args:
    u: the average velocity.
    stochasticity: ρ, the share of fresh noise in [0, 1], or 'sde' (see `mul`).
    extrapolation: κ >= 0; from the third step on, κ times the change of x̂ and
      ẑ since the previous step is added to them. The step to s = 0 ends at x̂ as
      it was predicted, as in the published code.

  Raises:
    ValueError: for an option out of range.
  """
  u = at_times(u)
  predict = _to(u, lambda t, s: jnp.zeros_like(t))
  return _unified(predict, stochasticity, extrapolation, jumps=True)


def any_style(
  u: AverageVelocity,
  *,
  stochasticity: float | str = 0.0,
  extrapolation: float = 0.0,
) -> Sampler:
  """Predicts the jump to the next time, r = s. One call a step.

  ρ = κ = 0 is `flow_map`. F is the mean over the step already, so a correction
  of second order, as in `mul`, could only add error.

  Args:
    u: the average velocity.
    stochasticity: ρ, the share of fresh noise in [0, 1], or 'sde' (see `mul`).
    extrapolation: κ >= 0 (see `few`).

  Raises:
    ValueError: for an option out of range.
  """
  predict = _to(at_times(u), lambda t, s: s)
  return _unified(predict, stochasticity, extrapolation, jumps=True)


def mul(
  u: AverageVelocity,
  *,
  stochasticity: float | str = 0.0,
  extrapolation: float = 0.0,
  order: int = 1,
  correct_last: bool = False,
) -> Sampler:
  """Predicts the velocity, r = t. One call a step, two if it is corrected.

  ρ = κ = 0 is `euler`. 'sde' is the ρ for which many steps follow the SDE
  dx = (v + ẑ) dt + √(2t) dw: s² ρ = min(2t (t − s), s²), which keeps the
  marginals; the published code computes it in the first step and keeps it. With
  order 2 a step becomes

    x_s = x_t + (s − t) (F + F') / 2,  F' at s, at the end of the step by F,

  without fresh noise and, except in the step by F, without extrapolation; κ = 0
  is `heun`. The published correction of the method has a coefficient
  (1 − s) / (1 − t) that is infinite at t = 1, and is not of order 2.

  Args:
    u: the average velocity.
    stochasticity: ρ, the share of fresh noise in [0, 1], or 'sde'.
    extrapolation: κ >= 0 (see `few`).
    order: 1 or 2.
    correct_last: with order 2, whether the step to s = 0 is corrected too: 2n
      calls in n steps instead of 2n − 1.

  Raises:
    ValueError: for an option out of range.
  """
  if order not in (1, 2):
    raise ValueError(f'order = {order} must be 1 or 2')
  if correct_last and order == 1:
    raise ValueError('correct_last = True must go with order = 2')
  predict = _to(at_times(u), lambda t, s: t)
  sampler = _unified(predict, stochasticity, extrapolation)
  if order == 1:
    return sampler
  noiseless = _unified(predict, 0.0, extrapolation).step

  def corrected(carry: Carry, t: Array, s: Array, keys: Array) -> Carry:
    first_order = noiseless(carry, t, s, keys)
    (x, *_), (x_s, x0, x1, count) = carry, first_order
    return x + (s - t) * (x1 - x0 + predict(x_s, s, s)) / 2, x0, x1, count

  def step(carry: Carry, t: Array, s: Array, keys: Array) -> Carry:
    return jax.lax.cond(
      (s > 0) | correct_last, corrected, sampler.step, carry, t, s, keys
    )

  asks = functools.partial(at_both_ends, at_zero=correct_last)
  return Sampler(sampler.init, step, asks)


def _to(u: AverageVelocity, target: Callable[[Array, Array], Array]) -> Predict:
  return lambda x, t, s: u(x, t, target(t, s))


def _unified(
  predict: Predict,
  stochasticity: float | str,
  extrapolation: float,
  *,
  jumps: bool = False,
) -> Sampler:
  """Steps of order 1; carries x, the last x̂ and ẑ, and the number of steps."""
  noise_at = _noise(stochasticity)
  if not extrapolation >= 0:
    raise ValueError(f'extrapolation = {extrapolation} must be at least 0')

  def init(x: Array, t: Array) -> Carry:
    del t
    return x, jnp.zeros_like(x), jnp.zeros_like(x), jnp.zeros((), jnp.int32)

  def step(carry: Carry, t: Array, s: Array, keys: Array) -> Carry:
    x, *last, count = carry
    F = predict(x, t, s)
    raw = x - t * F, x + (1 - t) * F
    later = (count > 1) & (s > 0)
    ahead = jnp.where(later, extrapolation, 0.0).astype(x.dtype)
    x0, x1 = (
      h + ahead * (h - h_prev) for h, h_prev in zip(raw, last, strict=True)
    )
    n = noise_at(t, s)
    old = jnp.sqrt((s - n) * (s + n))  # s √(1 − ρ), where n = s √ρ
    x_s = (1 - s) * x0 + old * x1 + n * fresh_noise(keys, x)
    return x_s, *raw, count + 1

  return Sampler(init, step, at_starts, jumps=jumps)


def _noise(stochasticity: float | str) -> Callable[[Array, Array], Array]:
  """(t, s) -> s √ρ, the fresh noise in x_s, also finite at s = 0."""
  if stochasticity == 'sde':
    return lambda t, s: jnp.minimum(jnp.sqrt(2 * t * (t - s)), s)
  if isinstance(stochasticity, str) or not 0 <= stochasticity <= 1:
    raise ValueError(
      f"stochasticity = {stochasticity!r} must lie in [0, 1], or be 'sde'"
    )
  return lambda t, s: s * stochasticity**0.5
