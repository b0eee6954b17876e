"""The embedding of noise levels in EDM's U-Nets, and of the second time.

  positional   sin and cos of ω c, ω = 1 .. 10⁻⁴ in even steps of log ω
  adm          cos and sin of ω c, without the last frequency
  fourier      sin and cos of 2π w c, w drawn once from N(0, 16²)

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 7.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.edm2_layers import Constant
from flowdistill.networks.embeddings import TimeEmbedding
from flowdistill.networks.precision import upcast
from flowdistill.networks.resampling import UNIFORM
from flowdistill.networks.unet_times import slow_angles

Array = jax.Array
SCALE = 16.0  # standard deviation of w


class EDMTimes(nnx.Module):
  """e₁(features) + (t − s) e₂(s); s has no effect at initialisation.

  Args:
    size: number of features, even.
    width: of the embedding.
    kind: 'positional', 'adm' or 'fourier'.
    max_frequency: of the second time, see `fourier_features`.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if `size` is odd.
  """

  def __init__(
    self,
    size: int,
    width: int,
    *,
    kind: str,
    max_frequency: float,
    rngs: nnx.Rngs,
  ):
    if size % 2:
      raise ValueError(
        f'nf and noise_mult make {size} features of the noise level, which '
        'must be even'
      )
    self.size, self.kind = size, kind
    self.frequencies = (
      Constant(SCALE * jax.random.normal(rngs.params(), (size // 2,)))
      if kind == 'fourier'
      else None
    )
    self.first = nnx.Linear(size, width, kernel_init=UNIFORM, rngs=rngs)
    self.second = nnx.Linear(width, width, kernel_init=UNIFORM, rngs=rngs)
    self.of_s = TimeEmbedding(
      width, max_frequency=max_frequency, zero=True, rngs=rngs
    )

  def __call__(self, features: Array, t: Array, s: Array) -> Array:
    """Features [b, size], those of conditions added, t, s [b] -> [b, width]."""
    t, s = upcast(t), upcast(s)
    e = self.second(nnx.silu(self.first(features)))
    return e + (t - s)[:, None] * self.of_s(s)

  def features(self, c: Array) -> Array:
    """Noise levels [b] -> [b, size]."""
    c = c[:, None]
    if self.frequencies is None:
      angles = slow_angles(c, self.size, ends=self.kind != 'adm')
    else:
      w = jax.lax.stop_gradient(self.frequencies[...])
      angles = c * (2 * math.pi * w)
    parts = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(
      parts[::-1] if self.kind == 'adm' else parts, axis=-1
    )
