"""Two Gaussians under guidance: a linear flow, and so one with a known map."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from oracle import Gaussian

from flowdistill.flow.transport import expand

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class GuidedGaussians:
  """Label 1 is the better Gaussian, label 0, the null condition, the worse."""

  better: Gaussian = dataclasses.field(default_factory=lambda: Gaussian(0.5))
  worse: Gaussian = dataclasses.field(default_factory=lambda: Gaussian(0.8))

  def batch(self, n: int, dropped: int = 0) -> dict[str, Any]:
    """Data [n, 3], of which the last `dropped` lost their condition."""
    x0 = self.better.std * np.random.default_rng(0).normal(size=(n, 3))
    label = jnp.arange(n) < n - dropped
    return {
      'x0': jnp.asarray(x0),
      'cond': {'label': label.astype(int)},
      'null': {'label': jnp.zeros(n, int)},
    }

  def velocity(self, x: Array, t: Array, cond: Any) -> Array:
    """v(x_t, t, cond), without guidance."""
    better, worse = self.better.velocity(x, t), self.worse.velocity(x, t)
    return jnp.where(expand(cond['label'], x) == 1, better, worse)

  def student(
    self, scale: Array | float, low: Array | float, high: Array | float
  ) -> Callable[..., Array]:
    """u of ω v + (1 − ω) v_worse at t in [low, high], and of v elsewhere.

    log f / x is the integral of the rate: ½ log V of the better Gaussian from
    t to s, and (ω − 1) times what that has over the worse one, from t to s cut
    off at low and high.
    """

    def u(x, t, s, cond):
      has = cond['label'] == 1
      inside = has & (low <= t) & (t <= high)
      better, worse = self.better, self.worse
      extra = jnp.where(has, scale - 1.0, 0.0)
      plain = jnp.where(has, _log(better, t, s), _log(worse, t, s))
      ends = jnp.clip(t, low, high), jnp.clip(s, low, high)
      log_f = plain + extra * (_log(better, *ends) - _log(worse, *ends))
      rate = jnp.where(has, better.rate(t), worse.rate(t))
      gain = (scale - 1.0) * (better.rate(t) - worse.rate(t))
      still = s == t
      jump = jnp.expm1(log_f) / jnp.where(still, 1, s - t)
      now = rate + jnp.where(inside, gain, 0.0)
      return expand(jnp.where(still, now, jump), x) * x

    return u


def _log(flow: Gaussian, t: Array, s: Array) -> Array:
  """log √(V_s / V_t)."""
  return jnp.log(flow.variance(s) / flow.variance(t)) / 2
