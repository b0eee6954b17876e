"""Distributions of a time t, and of a pair of times (t, s) with s <= t.

A law is called as `law(key, n)` and draws n samples, float32 in [0, 1].
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

Array = jax.Array


class TimeLaw(Protocol):
  """law(key, n) -> t [n] in [0, 1]."""

  def __call__(self, key: Array, n: int, /) -> Array: ...


class PairLaw(Protocol):
  """law(key, n) -> (t [n], s [n]) with 0 <= s <= t <= 1."""

  def __call__(self, key: Array, n: int, /) -> tuple[Array, Array]: ...


def uniform(
  key: Array, n: int, *, low: float = 0.0, high: float = 1.0
) -> Array:
  """t ~ U[low, high).

  Raises:
    ValueError: unless 0 <= low < high <= 1.
  """
  _check_range(low, high)
  return jax.random.uniform(key, (n,), minval=low, maxval=high)


def logit_normal(
  key: Array, n: int, *, mean: float = 0.0, std: float = 1.0
) -> Array:
  """t = sigmoid(N(mean, std²)).

  Source: Esser et al., "Scaling Rectified Flow Transformers" (2024),
  https://arxiv.org/abs/2403.03206, eq. 19. The noise level σ = t / (1 − t) is
  then log-normal, ln σ ~ N(mean, std²), as in EDM.

  Raises:
    ValueError: if `std` is not above 0.
  """
  if not std > 0:
    raise ValueError(f'std = {std} must be above 0')
  return jax.nn.sigmoid(mean + std * jax.random.normal(key, (n,)))


def beta(
  key: Array,
  n: int,
  *,
  a: float = 1.0,
  b: float = 1.0,
  low: float = 0.0,
  high: float = 1.0,
) -> Array:
  """t = low + (high − low) Beta(a, b).

  Source: Cheng et al., "TwinFlow" (2025), https://arxiv.org/abs/2512.05150.

  Raises:
    ValueError: unless a, b > 0 and 0 <= low < high <= 1.
  """
  _check_range(low, high)
  for name, value in (('a', a), ('b', b)):
    if not value > 0:
      raise ValueError(f'{name} = {value} must be above 0')
  return low + (high - low) * jax.random.beta(key, a, b, (n,))


def fixed(key: Array, n: int, *, t: float = 1.0) -> Array:
  """Always the same time: 1 is the noise end, 0 the data end.

  Raises:
    ValueError: if `t` is outside [0, 1].
  """
  del key
  if not 0 <= t <= 1:
    raise ValueError(f't = {t} must lie in [0, 1]')
  return jnp.full((n,), t, jnp.float32)


def ends(key: Array, n: int, *, noise_share: float = 0.5) -> Array:
  """t = 1 with probability `noise_share`, else t = 0.

  Raises:
    ValueError: if `noise_share` is outside [0, 1].
  """
  if not 0 <= noise_share <= 1:
    raise ValueError(f'noise_share = {noise_share} must lie in [0, 1]')
  return jax.random.bernoulli(key, noise_share, (n,)).astype(jnp.float32)


def grid(key: Array, n: int, *, steps: int = 1) -> Array:
  """t = j / k for j uniform in 1 .. k: the times of k Euler steps.

  Raises:
    ValueError: if `steps`, k, is below 1.
  """
  if steps < 1:
    raise ValueError(f'steps = {steps} must be at least 1')
  return jax.random.randint(key, (n,), 1, steps + 1) / steps


def interval(
  key: Array,
  n: int,
  *,
  mean: float = -0.8,
  std: float = 1.0,
  instant: float = 0.0,
) -> tuple[Array, Array]:
  """t − s = sigmoid(N(mean, std²)), and s ~ U[0, 1 − (t − s)].

  One of the two readings of Align Your Flow, Algorithm 1, line 4; the other is
  `ordered`. Which one the authors used is unconfirmed, as are the values
  (−0.8, 1.0) and (−0.6, 1.6) that circulate. A fraction `instant` of the
  examples has s = t, as in MeanFlow.
  """

  def draw(key: Array) -> tuple[Array, Array]:
    key_gap, key_s = jax.random.split(key)
    gap = logit_normal(key_gap, n, mean=mean, std=std)
    s = jax.random.uniform(key_s, (n,)) * (1 - gap)
    return s + gap, s

  return _with_instants(key, draw, instant)


def ordered(
  key: Array,
  n: int,
  *,
  mean: float = -0.8,
  std: float = 1.0,
  instant: float = 0.0,
) -> tuple[Array, Array]:
  """The larger and the smaller of two logit-normal times (see `interval`)."""
  return _with_instants(
    key,
    lambda key: _descending(logit_normal(key, 2 * n, mean=mean, std=std)),
    instant,
  )


def mostly_instant(
  key: Array,
  n: int,
  *,
  mean: float = -0.4,
  std: float = 1.0,
  instant: float = 0.75,
) -> tuple[Array, Array]:
  """`ordered` with MeanFlow's values: s = t for three out of four examples.

  Source: Geng et al., "Mean Flows for One-step Generative Modeling" (2025),
  https://arxiv.org/abs/2505.13447, table 4.
  """
  return ordered(key, n, mean=mean, std=std, instant=instant)


def sorted_uniform(
  key: Array, n: int, *, instant: float = 0.0
) -> tuple[Array, Array]:
  """The larger and the smaller of two uniform times (see `interval`)."""
  return _with_instants(
    key, lambda key: _descending(uniform(key, 2 * n)), instant
  )


def _descending(times: Array) -> tuple[Array, Array]:
  first, second = jnp.split(times, 2)
  return jnp.maximum(first, second), jnp.minimum(first, second)


def _with_instants(
  key: Array, draw: Callable[[Array], tuple[Array, Array]], share: float
) -> tuple[Array, Array]:
  """(t, s) of `draw`, with s = t for a fraction of the examples."""
  if not 0 <= share <= 1:
    raise ValueError(f'instant = {share} must lie in [0, 1]')
  if not share:
    return draw(key)
  key_times, key_same = jax.random.split(key)
  t, s = draw(key_times)
  return t, jnp.where(jax.random.bernoulli(key_same, share, t.shape), t, s)


def _check_range(low: float, high: float) -> None:
  if not 0 <= low < 1:
    raise ValueError(f'low = {low} must lie in [0, 1)')
  if not low < high <= 1:
    raise ValueError(
      f'high = {high} must lie in ({low}, 1]: above low, up to 1'
    )


TIMES = {
  'uniform': uniform,
  'logit_normal': logit_normal,
  'beta': beta,
  'fixed': fixed,
  'ends': ends,
  'grid': grid,
}
TIME_PAIRS = {
  'interval': interval,
  'ordered': ordered,
  'mostly_instant': mostly_instant,
  'sorted_uniform': sorted_uniform,
}
