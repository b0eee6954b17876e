"""A multilayer perceptron for points, u(x_t, t, s, cond) on [b, d]."""

from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import nnx
from jax.typing import DTypeLike

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.embeddings import TimePair, conditioned, make_scalars
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.stack import Stack

Array = jax.Array


class MLP(nnx.Module):
  """Residual layers, each shifted by the embedding of times and conditions.

  Args:
    spec: of the data, of shape (d,).
    width: of the hidden layers.
    depth: number of hidden layers.
    dropout: dropout rate in each hidden layer, in [0, 1).
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or the spec has a condition that
      the network does not take.
  """

  signature: ClassVar[str] = 'average'

  def __init__(
    self,
    spec: DataSpec,
    *,
    width: int = 128,
    depth: int = 3,
    dropout: float = 0.0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'mlp')
    if len(spec.shape) != 1:
      raise ValueError(f'an MLP takes points [d], not {list(spec.shape)}')
    (size,) = spec.shape
    check_sizes(width=width, depth=depth)
    check_dropout(dropout)
    self.times = TimePair(width, max_frequency=options.max_frequency, rngs=rngs)
    self.label = (
      nnx.Embed(spec.num_classes + 1, width, rngs=rngs)
      if spec.num_classes
      else None
    )
    self.first = nnx.Linear(size, width, rngs=rngs)
    self.layers = Stack(
      lambda rngs: Residual(width, dropout, dtype=options.products, rngs=rngs),
      depth,
      remat=options.remat,
      rngs=rngs,
    )
    self.last = nnx.Linear(width, size, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)

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
  """h plus a hidden layer of h, shifted by e."""

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
