"""Layers of one shape that run one after the other, with stacked parameters.

The program scans them, so its length, and the time that it takes to compile,
do not depend on their number. A few layers are unrolled instead: on a CPU that
takes less time and memory.
"""

import contextlib
import contextvars
from collections.abc import Callable, Generator
from typing import Any

import jax
from flax import nnx

from flowdistill.networks.offload import fetched

Array = jax.Array
FEW = 4  # at most so many layers are unrolled
REMAT = {
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}
"""What of a layer is saved for the backward pass, which rematerialises the
rest: the results of products with a matrix of parameters; only its input."""


def rematerialised(
  f: Callable[..., Any], remat: str | None, *, prevent_cse: bool = True
) -> Callable[..., Any]:
  """f, rematerialised in the backward pass by a policy of `REMAT`, or None."""
  if remat is None:
    return f
  return jax.checkpoint(f, policy=REMAT[remat], prevent_cse=prevent_cse)


_constrain: contextvars.ContextVar[Callable[[Array], Array]] = (
  contextvars.ContextVar('constrain', default=lambda x: x)
)


@contextlib.contextmanager
def constrain_layer_inputs(
  constrain: Callable[[Array], Array],
) -> Generator[None]:
  """In this context the input of a stack's layers passes through `constrain`.

  It constrains how activations are sharded: left alone, the compiler shards
  those in a scan along other axes than the batch, and communicates them.
  """
  token = _constrain.set(constrain)
  try:
    yield
  finally:
    _constrain.reset(token)


class Stack(nnx.Module):
  """`depth` layers; every parameter of `each` is [depth, ...].

  Args:
    make: make(rngs) is a layer, layer(h, *args, key=None) -> like h.
    depth: number of layers.
    remat: a name of `REMAT`; None saves everything for the backward pass.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self,
    make: Callable[[nnx.Rngs], nnx.Module],
    depth: int,
    *,
    remat: str | None = None,
    rngs: nnx.Rngs,
  ):
    def params(key: Array) -> Any:
      return nnx.split(make(nnx.Rngs(key)))[1]

    graph = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))[0]
    keys = jax.random.split(rngs.params(), depth)
    self.each = nnx.merge(graph, jax.vmap(params)(keys))
    self.depth, self.remat = depth, remat

  def __call__(self, h: Array, *args: Any, key: Array | None = None) -> Array:
    """Applies all layers to h, each with its own key, or none."""
    constrain = _constrain.get()
    if self.depth <= FEW and self.remat is None:
      return self.loop()(constrain(h), *args, key=key)
    graph, params = nnx.split(self.each)

    def layer(h: Array, one: Any) -> tuple[Array, None]:
      params, key = one
      here = nnx.merge(graph, fetched(params))
      return here(constrain(h), *args, key=key), None

    # In a scan, XLA does not eliminate what is rematerialised as common.
    body = rematerialised(layer, self.remat, prevent_cse=False)
    keys = None if key is None else jax.random.split(key, self.depth)
    return jax.lax.scan(body, h, (params, keys))[0]

  def loop(self) -> 'Loop':
    """The same layers, unrolled."""
    graph, params = nnx.split(self.each)
    leaves, tree = jax.tree.flatten(fetched(params))
    # The gradient of a split is one concatenation.
    parts = [jax.lax.split(x, [1] * self.depth) for x in leaves]
    return Loop(
      nnx.merge(graph, jax.tree.unflatten(tree, [x[0] for x in own]))
      for own in zip(*parts, strict=True)
    )


class Loop(nnx.List):
  """Layers that run in a Python loop."""

  def __call__(self, h: Array, *args: Any, key: Array | None = None) -> Array:
    """As `Stack.__call__`."""
    keys = [None] * len(self)
    if key is not None:
      keys = list(jax.random.split(key, len(self)))
    for layer, own in zip(self, keys, strict=True):
      h = layer(h, *args, key=own)
    return h


def unstacked(model: nnx.Module) -> nnx.Module:
  """The network with loops in place of stacks, to inspect every layer."""
  for _, module in list(nnx.iter_modules(model)):
    for name, child in list(vars(module).items()):
      if isinstance(child, Stack):
        setattr(module, name, child.loop())
  return model
