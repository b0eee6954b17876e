"""Distributions over a time t, and over a pair of times (t, s) with s <= t.

A law is called as `law(key, n)` and draws n of them, float32 in [0, 1].
"""

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
  if not 0 <= low < 1:
    raise ValueError(f'low = {low} must lie in [0, 1)')
  if not low < high <= 1:
    raise ValueError(
      f'high = {high} must lie in ({low}, 1]: above low, up to 1'
    )
  return jax.random.uniform(key, (n,), minval=low, maxval=high)


def logit_normal(
  key: Array, n: int, *, mean: float = 0.0, std: float = 1.0
) -> Array:
  """t = sigmoid(N(mean, std²)).

  Source: Esser et al., "Scaling Rectified Flow Transformers" (2024),
  https://arxiv.org/abs/2403.03206, eq. 19.

  Raises:
    ValueError: if `std` is not above 0.
  """
  if not std > 0:
    raise ValueError(f'std = {std} must be above 0')
  return jax.nn.sigmoid(mean + std * jax.random.normal(key, (n,)))


def interval(
  key: Array, n: int, *, mean: float = -0.8, std: float = 1.0
) -> tuple[Array, Array]:
  """t − s = sigmoid(N(mean, std²)), and s ~ U[0, 1 − (t − s)].

  One of the two readings of Align Your Flow, Algorithm 1, line 4; the other is
  `ordered`. Which one the authors used is unconfirmed, and so are the values
  (−0.8, 1.0) and (−0.6, 1.6) that circulate.
  """
  key_gap, key_s = jax.random.split(key)
  gap = logit_normal(key_gap, n, mean=mean, std=std)
  s = jax.random.uniform(key_s, (n,)) * (1 - gap)
  return s + gap, s


def ordered(
  key: Array, n: int, *, mean: float = -0.8, std: float = 1.0
) -> tuple[Array, Array]:
  """The larger and the smaller of two logit-normal times (see `interval`)."""
  return _descending(logit_normal(key, 2 * n, mean=mean, std=std))


def sorted_uniform(key: Array, n: int) -> tuple[Array, Array]:
  """The larger and the smaller of two uniform times."""
  return _descending(uniform(key, 2 * n))


def _descending(times: Array) -> tuple[Array, Array]:
  first, second = jnp.split(times, 2)
  return jnp.maximum(first, second), jnp.minimum(first, second)


TIMES = {'uniform': uniform, 'logit_normal': logit_normal}
TIME_PAIRS = {
  'interval': interval,
  'ordered': ordered,
  'sorted_uniform': sorted_uniform,
}
