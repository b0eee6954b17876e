"""Samples of the student, for a discriminator."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.guidance import ScaleLaw
from flowdistill.flow.transport import AverageVelocity, below, check_gamma

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fakes:
  """How fakes are drawn: by jumps of equal length from noise to data.

  With γ > 0 a jump ends below its time s, at `transport.below`, and fresh noise
  is added, as the sampler `gamma` does.

  Attributes:
    nfe: number of jumps; 1 is f(z, 1, 0), as in Align Your Flow.
    gamma: γ in [0, 1].
    guidance: distribution of λ, on which the student is conditioned, as
      cond['guidance']; it should be that of `base`. None gives no λ.

  Raises:
    ValueError: if an option is out of range, or has no effect.
  """

  nfe: int = 1
  gamma: float = 0.0
  guidance: ScaleLaw | None = None

  def __post_init__(self) -> None:
    if self.nfe < 1:
      raise ValueError(f'nfe = {self.nfe} must be at least 1')
    check_gamma(self.gamma)
    if self.gamma and self.nfe == 1:
      raise ValueError(
        f'gamma = {self.gamma} must be 0 for nfe = 1: a jump to the data adds '
        'no noise'
      )

  def draw(
    self, u: AverageVelocity, key: Array, like: Array, cond: Any
  ) -> Array:
    """Samples in the shape of `like`; the last jump alone has a gradient."""
    key_z, key_g, key = jax.random.split(key, 3)
    if self.guidance is not None:
      cond = {**cond, 'guidance': self.guidance(key_g, len(like))}
    x = jax.random.normal(key_z, like.shape, like.dtype)
    one = jnp.ones(len(like), like.dtype)
    for i in range(self.nfe):
      x = jax.lax.stop_gradient(x)
      t, s = 1 - i / self.nfe, 1 - (i + 1) / self.nfe
      r, m = below(s, self.gamma)
      x = m * (x + (r - t) * u(x, t * one, r * one, cond))
      if s and self.gamma:
        key, key_n = jax.random.split(key)
        x += self.gamma * s * jax.random.normal(key_n, x.shape, x.dtype)
    return x


ONE_STEP = Fakes()
