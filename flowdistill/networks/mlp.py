"""A multilayer perceptron for points, u(x_t, t, s, cond) on [b, d]."""

from collections.abc import Mapping

import jax
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.networks.embeddings import TimePair, conditioned, make_scalars
from flowdistill.networks.precision import product_dtype
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.stack import Stack

Array = jax.Array


class MLP(nnx.Module):
  """Residual layers, each shifted by the embedding of times and conditions.

  Args:
    shape: of an example, (d,).
    num_classes: of `cond['label']`, 0 for none; label `num_classes` is null.
    width: of the hidden layers.
    depth: how many of them.
    dropout: rate of dropout in each hidden layer, in [0, 1).
    max_frequency: of the time embedding, in radians.
    dtype: of the products in hidden layers, 'float32' or 'bfloat16'; all else,
      and the answer, is float32 (see `precision.py`).
    remat: what of a layer is computed again for the gradient, to save memory:
      'dots', all but its large products; 'full', all; None for nothing.
    scalars: names of conditions [b], such as 'guidance', that are embedded as
      times are, with no effect until it is learnt.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range.
  """

  def __init__(
    self,
    shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 3,
    dropout: float = 0.0,
    max_frequency: float = 16.0,
    dtype: str = 'float32',
    remat: str | None = None,
    scalars: tuple[str, ...] = (),
    rngs: nnx.Rngs,
  ):
    if len(shape) != 1:
      raise ValueError(f'an MLP takes points [d], not {list(shape)}')
    (size,) = shape
    check_sizes(width=width, depth=depth)
    check_dropout(dropout)
    products = product_dtype(dtype)
    self.times = TimePair(width, max_frequency=max_frequency, rngs=rngs)
    self.label = (
      nnx.Embed(num_classes + 1, width, rngs=rngs) if num_classes else None
    )
    self.first = nnx.Linear(size, width, rngs=rngs)
    self.layers = Stack(
      lambda rngs: Residual(width, dropout, dtype=products, rngs=rngs),
      depth,
      remat=remat,
      rngs=rngs,
    )
    self.last = nnx.Linear(width, size, rngs=rngs)
    self.scalars = make_scalars(
      scalars, width, max_frequency=max_frequency, rngs=rngs
    )

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, d], t, s, `cond['label']` and scalars [b] -> [b, d]."""
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    e, h = nnx.silu(e), self.first(x_t)
    return self.last(nnx.silu(self.layers(h, e, key=key)))


class Residual(nnx.Module):
  """h plus a layer of h that e has shifted."""

  def __init__(
    self,
    width: int,
    dropout: float,
    *,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
  ):
    self.shift = nnx.Linear(width, width, rngs=rngs)
    self.linear = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
    self.dropout = nnx.Dropout(dropout)

  def __call__(self, h: Array, e: Array, *, key: Array | None) -> Array:
    """h and e [b, width] -> [b, width]."""
    new = self.linear(nnx.silu(h + self.shift(e)))
    return h + self.dropout(new, deterministic=key is None, rngs=key)
