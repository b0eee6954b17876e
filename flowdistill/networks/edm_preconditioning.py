"""The preconditionings in EDM's code as velocities on the linear path.

They ask for a denoiser D(x; σ) = c_skip x + c_out N(c_in x; c_noise), here at
σ = t / (1 − t) and x = x_t / (1 − t), and v = (x_t − D) / t, where the 1 / t
cancels:

  edm         v = ((t − σ_d² (1 − t)) x_t / √q − σ_d N(x_t / √q)) / √q,
              q = t² + σ_d² (1 − t)², c_noise = ln(σ) / 4: `edm2_times.py`
  vp, iddpm   v = (N(x_t / √p) − x_t) / (1 − t), p = t² + (1 − t)²,
              c_noise a step of 0 .. 999, a whole number in iddpm
  ve          v = (−N(x_t / (1 − t)) − x_t) / (1 − t), c_noise = ln(σ / 2)

Each has a range of σ that it was made for, to which σ is clamped in c_noise.
The last three grow with 1 / (1 − t): beyond the largest σ they answer as there,
so that they are finite at t = 1.

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 1 and
appendix C.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.networks import edm2_times
from flowdistill.networks.edm2_times import forward
from flowdistill.networks.precision import upcast

Array = jax.Array
STEPS = 1000  # M
BETA_D, BETA_MIN = 19.9, 0.1  # of vp
C_1, C_2 = 0.001, 0.008  # of iddpm


def iddpm_sigmas() -> np.ndarray:
  """The noise levels of iDDPM's steps, float64 [1000], rising."""
  steps = np.arange(STEPS + 1)
  alpha = np.sin(math.pi / 2 * steps / STEPS / (C_2 + 1)) ** 2
  levels = [0.0]
  for j in range(STEPS, 0, -1):
    ratio = max(alpha[j - 1] / alpha[j], C_1)
    levels.append(math.sqrt((levels[-1] ** 2 + 1) / ratio - 1))
  return np.array(levels[1:])


def vp_sigma(time: float) -> float:
  """σ at a time of the variance-preserving process, in (0, 1]."""
  return math.sqrt(math.expm1(BETA_D / 2 * time**2 + BETA_MIN * time))


IDDPM = iddpm_sigmas()
SIGMAS = {
  'edm': edm2_times.SIGMAS,
  'vp': (vp_sigma(1e-5), vp_sigma(1.0)),
  've': (0.02, 100.0),
  'iddpm': (float(IDDPM[0]), float(IDDPM[-1])),
}
"""Preconditioning -> the least and the largest σ."""


def noise_level(t: Array, kind: str, time: str) -> Array:
  """What is embedded of t [b]: c_noise ('edm'), or t itself ('linear').

  c_noise does not tell t from −t, the twin branch of TwinFlow.
  """
  if time == 'linear' or kind == 'edm':
    return edm2_times.noise_level(t, time)
  low, high = (sigma / (1 + sigma) for sigma in SIGMAS[kind])
  t = jnp.clip(forward(upcast(t)), low, high)
  sigma = t / (1 - t)
  if kind == 've':
    return jnp.log(sigma / 2)
  if kind == 'vp':
    root = jnp.sqrt(BETA_MIN**2 + 2 * BETA_D * jnp.log1p(sigma**2))
    return (STEPS - 1) * (root - BETA_MIN) / BETA_D
  between = jnp.asarray((IDDPM[1:] + IDDPM[:-1]) / 2, t.dtype)
  return jnp.searchsorted(between, sigma).astype(t.dtype)  # of the nearest


def coefficients(
  t: Array, kind: str, sigma_data: float
) -> tuple[Array, Array, Array]:
  """(a, b, c) [b] of v = a x_t − b N(c x_t)."""
  if kind == 'edm':
    return edm2_times.coefficients(t, sigma_data)
  largest = SIGMAS[kind][1]
  t = jnp.minimum(forward(upcast(t)), largest / (1 + largest))
  rate = 1 / (1 - t)
  if kind == 've':
    return -rate, rate, rate
  return -rate, -rate, jax.lax.rsqrt(t**2 + (1 - t) ** 2)
