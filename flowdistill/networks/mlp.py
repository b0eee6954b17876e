"""A multilayer perceptron for points, u(x_t, t, s, cond) on [b, d]."""

from collections.abc import Mapping

import jax
from flax import nnx

from flowdistill.networks.embeddings import Scalars, TimePair
from flowdistill.networks.precision import product_dtype
from flowdistill.networks.ranges import check_dropout, check_sizes

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
    self.layers = nnx.List(
      nnx.Linear(width, width, dtype=products, rngs=rngs) for _ in range(depth)
    )
    self.shifts = nnx.List(
      nnx.Linear(width, width, rngs=rngs) for _ in range(depth)
    )
    self.last = nnx.Linear(width, size, rngs=rngs)
    self.dropout = nnx.Dropout(dropout)
    self.scalars = (
      Scalars(scalars, width, max_frequency=max_frequency, rngs=rngs)
      if scalars
      else None
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
    e = self.times(t, s)
    if self.label is not None:
      e = e + self.label(cond['label'])
    if self.scalars is not None:
      e = e + self.scalars(cond)
    e, h = nnx.silu(e), self.first(x_t)
    keys = [None] * len(self.layers)
    if key is not None:
      keys = list(jax.random.split(key, len(self.layers)))
    for layer, shift, k in zip(self.layers, self.shifts, keys, strict=True):
      h = h + self.dropout(
        layer(nnx.silu(h + shift(e))), deterministic=k is None, rngs=k
      )
    return self.last(nnx.silu(h))
