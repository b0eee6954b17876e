"""Several heads of queries that share one head of keys and values.

Source: Ainslie et al., "GQA: Training Generalized Multi-Query Transformer
Models from Multi-Head Checkpoints" (2023), https://arxiv.org/abs/2305.13245.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

Array = jax.Array


class Attend(Protocol):
  """attend(q, k, v, mask), see `attention.attend`."""

  def __call__(
    self, q: Array, k: Array, v: Array, mask: Array | None = None, /
  ) -> Array: ...


def grouped(attend: Attend) -> Attend:
  """`attend`, also of k and v with fewer heads than q, in their third axis."""

  def wrapped(
    q: Array, k: Array, v: Array, mask: Array | None = None, /
  ) -> Array:
    if q.ndim < 4 or q.shape[-3] == k.shape[-3]:
      return attend(q, k, v, mask)
    return _by_groups(attend, q, k, v, mask)

  return wrapped


def _by_groups(
  attend: Attend, q: Array, k: Array, v: Array, mask: Array | None
) -> Array:
  """With an axis of groups before that of tokens, of length 1 in k and v."""
  *lead, heads, n, c = q.shape
  groups = k.shape[-3]
  if heads % groups:
    raise ValueError(
      f'{groups} heads of keys and values must divide {heads} of queries'
    )
  q = q.reshape(*lead, groups, heads // groups, n, c)
  k, v = k[..., None, :, :], v[..., None, :, :]
  if mask is not None and jnp.ndim(mask) > 2:
    *front, own, rows, columns = mask.shape
    parts = (1, 1) if own == 1 else (groups, heads // groups)
    mask = mask.reshape(*front, *parts, rows, columns)
  out = attend(q, k, v, mask)
  return out.reshape(*lead, heads, n, v.shape[-1])
