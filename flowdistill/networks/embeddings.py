"""Embeddings of times, in float32 at least, whatever the network runs in."""

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array


def fourier_features(t: Array, size: int, *, max_frequency: float) -> Array:
  """cos and sin of t at `size / 2` frequencies, geometric in 1 .. max.

  Args:
    t: [b] in [0, 1].
    size: of the answer, even.
    max_frequency: in radians per unit of time. It bounds du/dt, so a network
      that is differentiated in time wants tens, not thousands.

  Returns:
    [b, size], float32 at least.
  """
  t = t.astype(jnp.promote_types(t.dtype, jnp.float32))[:, None]
  exponents = jnp.linspace(0.0, 1.0, size // 2, dtype=t.dtype)
  angles = t * max_frequency**exponents
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nnx.Module):
  """Fourier features and two layers: t [b] -> [b, width].

  Args:
    width: of the answer.
    max_frequency: see `fourier_features`.
    zero: start at zero, as an input that has no effect until it is learnt.

  Raises:
    ValueError: if `width` is odd, or `max_frequency` not above 0.
  """

  def __init__(
    self,
    width: int,
    *,
    max_frequency: float,
    zero: bool = False,
    rngs: nnx.Rngs,
  ):
    if width % 2:
      raise ValueError(f'width = {width} must be even: half cos, half sin of t')
    if not max_frequency > 0:
      raise ValueError(f'max_frequency = {max_frequency} must be above 0')
    last = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    self.width, self.max_frequency = width, max_frequency
    self.first = nnx.Linear(width, width, rngs=rngs)
    self.second = nnx.Linear(width, width, kernel_init=last, rngs=rngs)

  def __call__(self, t: Array) -> Array:
    features = fourier_features(t, self.width, max_frequency=self.max_frequency)
    return self.second(nnx.silu(self.first(features)))


class TimePair(nnx.Module):
  """e(t, s) = e₁(t) + (t − s) e₂(s), with e₂ zero at initialisation.

  At s = t this is e₁(t), so a network keeps its velocity whatever e₂ becomes;
  and s has no effect until e₂ is learnt. The form is that of TwinFlow's
  Qwen-Image, "TwinFlow" (2025), https://arxiv.org/abs/2512.05150.
  """

  def __init__(self, width: int, *, max_frequency: float, rngs: nnx.Rngs):
    self.of_t = TimeEmbedding(width, max_frequency=max_frequency, rngs=rngs)
    self.of_s = TimeEmbedding(
      width, max_frequency=max_frequency, zero=True, rngs=rngs
    )

  def __call__(self, t: Array, s: Array) -> Array:
    return self.of_t(t) + (t - s)[:, None] * self.of_s(s)
