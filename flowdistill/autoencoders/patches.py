"""Images as frequencies of patches: an orthogonal transform of each patch.

Source: Ahmed, Natarajan, Rao, "Discrete Cosine Transform" (1974),
https://doi.org/10.1109/T-C.1974.223784.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.autoencoders.space import Space

Array = jax.Array


def patch_dct(
  shape: tuple[int, ...], *, patch: int = 2, scale: float = 1.0
) -> Space:
  """The orthonormal DCT-II of patches, [h, w, c] -> [h / p, w / p, p p c].

  Distances are preserved up to the factor `scale`.

  Args:
    shape: of an image, (h, w, c).
    patch: p, the side of a patch; it divides h and w.
    scale: factor of the coefficients, above 0.

  Raises:
    ValueError: for another shape, or an option out of range.
  """
  if len(shape) != 3:
    raise ValueError(f'patch_dct takes images [h, w, c], not {list(shape)}')
  h, w, c = shape
  if patch < 1 or h % patch or w % patch:
    raise ValueError(f'patch = {patch} must divide {h} x {w}')
  if not 0 < scale < math.inf:
    raise ValueError(f'scale = {scale} must be above 0, and finite')
  basis = dct(patch)
  grid = (h // patch, w // patch)

  @jax.jit
  def encode(x: Array) -> Array:
    x = x.reshape(len(x), grid[0], patch, grid[1], patch, c)
    z = jnp.einsum('ui,vj,bhiwjc->bhwuvc', basis, basis, x)
    return scale * z.reshape(len(z), *grid, patch * patch * c)

  @jax.jit
  def decode(z: Array) -> Array:
    z = z.reshape(len(z), *grid, patch, patch, c) / scale
    x = jnp.einsum('ui,vj,bhwuvc->bhiwjc', basis, basis, z)
    return x.reshape(len(x), h, w, c)

  return Space((*grid, patch * patch * c), encode, decode, scale)


def dct(n: int) -> np.ndarray:
  """The orthonormal DCT-II, float32 [frequency, place]."""
  k, i = np.arange(n)[:, None], np.arange(n)[None]
  basis = math.sqrt(2 / n) * np.cos(math.pi * k * (2 * i + 1) / (2 * n))
  basis[0] /= math.sqrt(2)
  return basis.astype(np.float32)
