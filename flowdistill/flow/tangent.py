"""Tangents: a function and its derivative along a direction, in one call.

For u(x_t, t, s) and the direction (v, 1, 0) the tangent is the total derivative
along the path, du/dt = ∇ₓu · v + ∂_t u; for (0, 0, 1) it is ∂u/∂s. An input
that does not move is closed over, so that nothing is computed for it.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

Array = jax.Array
Inputs = tuple[Array, ...]


class Tangent(Protocol):
  """tangent(u, point, direction) -> (u(*point), its derivative there)."""

  def __call__(
    self, u: Callable[..., Array], point: Inputs, direction: Inputs, /
  ) -> tuple[Array, Array]: ...


def jvp(
  u: Callable[..., Array], point: Inputs, direction: Inputs
) -> tuple[Array, Array]:
  """The exact derivative, at the cost of one more forward pass."""
  return jax.jvp(u, point, direction)


def difference(
  u: Callable[..., Array],
  point: Inputs,
  direction: Inputs,
  *,
  epsilon: float = 1e-3,
) -> tuple[Array, Array]:
  """(u(p + ε d) − u(p − ε d)) / 2ε, in float32 at least.

  For a network with a kernel that refuses jvp, such as fused attention. It
  costs two forward passes, `jvp` one. The error is of order ε², plus the
  rounding error of u over ε: let the network compute in float32, not bfloat16,
  and keep ε well below the shortest period of its time embedding. u is also
  evaluated at times up to ε outside 0 <= s <= t <= 1.

  Args:
    u: a function of the arrays of `point`.
    point: p, where the derivative is taken.
    direction: d, arrays of the shapes of `point`.
    epsilon: ε, above 0.

  Raises:
    ValueError: if `epsilon` is not above 0.
  """
  if not epsilon > 0:
    raise ValueError(f'epsilon = {epsilon} must be above 0')

  def moved(h: float) -> Array:
    pairs = zip(point, direction, strict=True)
    return _wide(u(*(_wide(p) + h * d for p, d in pairs)))

  return u(*point), (moved(epsilon) - moved(-epsilon)) / (2 * epsilon)


TANGENTS = {'jvp': jvp, 'difference': difference}


def _wide(x: Array) -> Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
