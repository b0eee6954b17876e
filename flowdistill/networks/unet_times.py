"""The time embedding of a U-Net, e₁(t) + (t − s) e₂(s), with its paper's e₁.

  positional   sin and cos of ω τ, ω = 10⁻⁴ .. 1 in even steps of log ω
  adm          cos and sin of ω τ, ω = 1 .. 10⁻⁴, without the last
  fourier      sin and cos of 2π w log τ, w drawn once from N(0, scale²)

τ = time_scale (1 − t): the time of rectified flow and SlimFlow is 1 at data,
and they embed 999 times it. Their weights therefore work here at our t, and
their time is mirrored nowhere else.

Source: Song et al., "Score-Based Generative Modeling through Stochastic
Differential Equations" (2020), https://arxiv.org/abs/2011.13456, appendix H;
Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis" (2021),
https://arxiv.org/abs/2105.05233; Liu et al., "Flow Straight and Fast" (2022),
https://arxiv.org/abs/2209.03003.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.embeddings import TimeEmbedding
from flowdistill.networks.precision import upcast
from flowdistill.networks.resampling import UNIFORM

Array = jax.Array
SPAN = 1e4  # the fastest frequency over the slowest
FIRST = 1e-3  # of 1 − t in log τ: their flows start there, not at pure noise


class UNetTimes(nnx.Module):
  """t, s [b] -> [b, 4 nf]; s has no effect at initialisation.

  Args:
    nf: number of features, or half of it ('fourier').
    kind: 'positional', 'adm' or 'fourier'.
    time_scale: of t.
    fourier_scale: standard deviation of w ('fourier').
    max_frequency: of the second time, see `fourier_features`.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range.
  """

  def __init__(
    self,
    nf: int,
    *,
    kind: str,
    time_scale: float,
    fourier_scale: float = 16.0,
    max_frequency: float,
    rngs: nnx.Rngs,
  ):
    for name, value in (
      ('time_scale', time_scale),
      ('fourier_scale', fourier_scale),
    ):
      if not value > 0:
        raise ValueError(f'{name} = {value} must be above 0')
    self.nf, self.kind, self.time_scale = nf, kind, time_scale
    size = 2 * nf if kind == 'fourier' else nf
    self.frequencies = (
      nnx.Param(fourier_scale * jax.random.normal(rngs.params(), (nf,)))
      if kind == 'fourier'
      else None
    )
    self.first = nnx.Linear(size, 4 * nf, kernel_init=UNIFORM, rngs=rngs)
    self.second = nnx.Linear(4 * nf, 4 * nf, kernel_init=UNIFORM, rngs=rngs)
    self.of_s = TimeEmbedding(
      4 * nf, max_frequency=max_frequency, zero=True, rngs=rngs
    )

  def __call__(self, t: Array, s: Array) -> Array:
    t, s = upcast(t), upcast(s)
    e = self.second(nnx.silu(self.first(self.features(t))))
    return e + (t - s)[:, None] * self.of_s(s)

  def features(self, t: Array) -> Array:
    """t [b] -> [b, nf] or [b, 2 nf]."""
    tau = self.time_scale * (1 - t)[:, None]
    if self.frequencies is None:
      angles = slow_angles(tau, self.nf, ends=self.kind != 'adm')
    else:
      w = jax.lax.stop_gradient(self.frequencies[...])  # not trained
      tau = jnp.maximum(tau, self.time_scale * FIRST)
      angles = jnp.log(tau) * w * 2 * math.pi
    parts = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(
      parts[::-1] if self.kind == 'adm' else parts, axis=-1
    )


def slow_angles(tau: Array, size: int, *, ends: bool) -> Array:
  """ω τ, ω = 1 .. 10⁻⁴, with the last or not: [b, 1] -> [b, size / 2]."""
  exponents = jnp.linspace(0, -1, size // 2, ends, dtype=tau.dtype)
  return tau * SPAN**exponents
