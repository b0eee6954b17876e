"""How the decay of an EMA grows from 0 to its constant d, as a table.

A warm-up is a function of (d, total_steps) and options. It returns a function,
updates made before -> decay of this update, float32 in [0, d].

The weight of a parameter in the average is (1 − d_k) Π d_j over the updates j
after its own, k; what is older than update k has Π d_j in all.
"""

import functools
import math
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Decays = Callable[[Array], Array]


class Warmup(Protocol):
  """warmup(d, total_steps) -> (updates made before -> decay in [0, d])."""

  def __call__(self, decay: float, total_steps: int, /) -> Decays: ...


def recursive(decay: float, total_steps: int) -> Decays:
  """κ ← κ + (1 − κ) (d − κ) / 2 from κ = 0; 1 − κ is about 2 / n.

  While 2 / n is above 1 − d, a share of about (k / n)² of the average of n
  updates is older than update k.

  Source: the code of Cheng et al., "TwinFlow" (2025),
  https://arxiv.org/abs/2512.05150, for the teacher of its targets.
  """
  return functools.partial(_looked_up, table=warm_decays(decay, total_steps))


def hyperbolic(
  decay: float, total_steps: int, *, offset: float = 10.0
) -> Decays:
  """min(d, (1 + n) / (offset + n)) of update n = 1, 2, ...

  While it is below d, a share of about (k / n)^(offset − 1) of the average of n
  updates is older than update k.

  Source: the EMA of TensorFlow, which score-based models, rectified flow and
  SlimFlow take over. Diffusers has n − 1 in place of n.

  Raises:
    ValueError: unless `offset` is finite and above 1.
  """
  del total_steps
  if not 1 < offset < math.inf:
    raise ValueError(f'offset = {offset} must be above 1, and finite')

  def at(step: Array) -> Array:
    n = jnp.asarray(step, jnp.float32) + 1
    return jnp.minimum(decay, (1 + n) / (offset + n))

  return at


def power(
  decay: float,
  total_steps: int,
  *,
  inv_gamma: float = 1.0,
  power: float = 2 / 3,
) -> Decays:
  """min(d, 1 − (1 + (n − 1) / inv_gamma)^−power) of update n = 1, 2, ...

  With inv_gamma and power of 1 it is the mean of all parameters so far.

  Source: the EMAs of k-diffusion, https://github.com/crowsonkb/k-diffusion, and
  Diffusers (use_ema_warmup).

  Raises:
    ValueError: unless both options are finite and above 0.
  """
  del total_steps
  for name, value in {'inv_gamma': inv_gamma, 'power': power}.items():
    if not 0 < value < math.inf:
      raise ValueError(f'{name} = {value} must be above 0, and finite')

  def at(step: Array) -> Array:
    share = 1 + jnp.asarray(step, jnp.float32) / inv_gamma
    return jnp.minimum(decay, 1 - share**-power)

  return at


def debiased(decay: float, total_steps: int) -> Decays:
  """1 − (1 − d) / (1 − d^n) of update n = 1, 2, ...

  That divides the average by 1 − d^n: update k has the weight
  d^(n − k) (1 − d) / (1 − d^n), as in Adam and `optax.ema`.

  Source: Kingma & Ba (2014), https://arxiv.org/abs/1412.6980, section 3.
  """
  del total_steps
  log = math.log(max(decay, 1e-30))

  def at(step: Array) -> Array:
    n = jnp.asarray(step, jnp.float32) + 1
    return jnp.clip(1 + (1 - decay) / jnp.expm1(n * log), 0, decay)

  return at


WARMUPS = {
  'recursive': recursive,
  'hyperbolic': hyperbolic,
  'power': power,
  'debiased': debiased,
}


def no_warmup(step: Array, decay: float) -> Array:
  """d from the first update on."""
  return jnp.full_like(step, decay, jnp.float32)


@functools.cache
def warm_decays(decay: float, steps: int) -> np.ndarray:
  """κ_0 = 0, κ_1, ... float32, of `steps` updates, or until κ reaches d.

  The recursion has no closed form, and a checkpoint does not store κ, hence a
  table. It ends after some 30 / (1 − d) steps, 120 kB for d = 0.999.
  """
  k, warm = 0.0, [0.0]
  while len(warm) < steps and decay - k > 1e-8:
    k += (1 - k) * (decay - k) / 2
    warm.append(k)
  table = np.array(warm, np.float32)
  table.flags.writeable = False
  return table


def _looked_up(step: Array, table: np.ndarray) -> Array:
  """The last entry of the table also holds after it."""
  return jnp.asarray(table)[jnp.minimum(step, len(table) - 1)]
