"""The times of a U-Net: e₁(t) + (t − s) e₂(s), with the e₁ of its paper.

  positional   sin and cos of ω τ, ω = 10⁻⁴ .. 1 in even steps of log ω
  adm          cos and sin of ω τ, ω = 1 .. 10⁻⁴, without the last
  fourier      sin and cos of 2π w log τ, w drawn once from N(0, scale²)

τ = time_scale (1 − t): rectified flow and SlimFlow ask at 999 times a time that
is 1 at data. So weights of theirs answer here at our t, and here alone is
their time turned.

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
from flowdistill.networks.precision import wide
from flowdistill.networks.resampling import UNIFORM

Array = jax.Array
SPAN = 1e4  # the fastest frequency over the slowest
FIRST = 1e-3  # log τ is asked no closer to noise: there the flow of theirs ends


class UNetTimes(nnx.Module):
  """t, s [b] -> [b, 4 nf], where s has no effect at initialisation.

  Args:
    nf: half of the features ('fourier'), or all of them.
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
    t, s = wide(t), wide(s)
    e = self.second(nnx.silu(self.first(self.features(t))))
    return e + (t - s)[:, None] * self.of_s(s)

  def features(self, t: Array) -> Array:
    """t [b] -> [b, nf] or [b, 2 nf]."""
    tau = self.time_scale * (1 - t)[:, None]
    if self.frequencies is None:
      ends = self.kind != 'adm'
      exponents = jnp.linspace(0, -1, self.nf // 2, ends, dtype=t.dtype)
      angles = tau * SPAN**exponents
    else:
      w = jax.lax.stop_gradient(self.frequencies[...])  # it is not learnt
      tau = jnp.maximum(tau, self.time_scale * FIRST)
      angles = jnp.log(tau) * w * 2 * math.pi
    parts = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(
      parts[::-1] if self.kind == 'adm' else parts, axis=-1
    )
