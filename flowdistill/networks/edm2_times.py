"""EDM's preconditioning as a velocity on the linear path, finite at both ends.

EDM asks a denoiser D(x; σ) at σ = t / (1 − t) and x = x_t / (1 − t), and
v = (x_t − D) / t. With q = t² + σ_d² (1 − t)², σ_d the standard deviation of
the data, and the network's own output N at x_t / √q all that is singular
cancels:

  v = ((t − σ_d² (1 − t)) x_t / √q − σ_d N) / √q

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 1.
"""

import jax
import jax.numpy as jnp

from flowdistill.networks.precision import upcast

Array = jax.Array
SIGMAS = 0.002, 80.0
"""The range of σ that EDM samples, to which it is clamped in c_noise alone."""
TIMES = ('edm', 'linear')


def noise_level(t: Array, kind: str) -> Array:
  """What is embedded of t [b]: c_noise = ln(σ) / 4 ('edm'), or t ('linear').

  'edm' does not tell t from −t, the twin branch of TwinFlow.
  """
  t = upcast(t)
  if kind == 'linear':
    return t
  low, high = (sigma / (1 + sigma) for sigma in SIGMAS)
  t = jnp.clip(forward(t), low, high)
  return (jnp.log(t) - jnp.log1p(-t)) / 4


def forward(t: Array) -> Array:
  """|t|, whose derivative at 0 is 1."""
  return jnp.where(t < 0, -t, t)


def coefficients(t: Array, sigma_data: float) -> tuple[Array, Array, Array]:
  """(a, b, c) [b] of v = a x_t − b N(c x_t), with c = 1 / √q."""
  t = forward(upcast(t))
  variance = sigma_data**2
  c = jax.lax.rsqrt(t**2 + variance * (1 - t) ** 2)
  return (t - variance * (1 - t)) * c**2, sigma_data * c, c
