"""Layers of one shape that run one after the other, their arrays stacked.

A program with a scan over them is as long for 57 layers as for 5, and so is the
time that it takes to compile. A few are written out instead: on a CPU that
takes less time and memory.
"""

import contextlib
import contextvars
from collections.abc import Callable, Generator
from typing import Any

import jax
from flax import nnx

Array = jax.Array
FEW = 4  # so many layers are written out
REMAT = {
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}
"""What of a layer is kept for the gradient, which computes the rest again: the
results of products with a matrix of parameters; nothing but its input."""


def check_remat(remat: str | None) -> None:
  """Raises ValueError unless it is None or a name of `REMAT`."""
  if remat not in (None, *REMAT):
    choices = ', '.join(map(repr, REMAT))
    raise ValueError(f'remat = {remat!r} must be None or one of {choices}')


def rematerialised(
  f: Callable[..., Any], remat: str | None, *, prevent_cse: bool = True
) -> Callable[..., Any]:
  """f, of which the gradient keeps what `remat` says."""
  if remat is None:
    return f
  return jax.checkpoint(f, policy=REMAT[remat], prevent_cse=prevent_cse)


_hold: contextvars.ContextVar[Callable[[Array], Array]] = (
  contextvars.ContextVar('hold', default=lambda x: x)
)


@contextlib.contextmanager
def holding(hold: Callable[[Array], Array]) -> Generator[None]:
  """While it is open, what goes into a layer passes through `hold` first.

  It says where rows lie: left alone, the compiler cuts activations in a scan
  along other axes than the batch, and sends them around.
  """
  token = _hold.set(hold)
  try:
    yield
  finally:
    _hold.reset(token)


class Stack(nnx.Module):
  """`depth` layers; every array of `each` is [depth, ...].

  Args:
    make: make(rngs) is a layer, layer(h, *args, key=None) -> like h.
    depth: how many.
    remat: a name of `REMAT`; None to keep all that the gradient reads.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if there is no such `remat`.
  """

  def __init__(
    self,
    make: Callable[[nnx.Rngs], nnx.Module],
    depth: int,
    *,
    remat: str | None = None,
    rngs: nnx.Rngs,
  ):
    check_remat(remat)

    def params(key: Array) -> Any:
      return nnx.split(make(nnx.Rngs(key)))[1]

    graph = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))[0]
    keys = jax.random.split(rngs.params(), depth)
    self.each = nnx.merge(graph, jax.vmap(params)(keys))
    self.depth, self.remat = depth, remat

  def __call__(self, h: Array, *args: Array, key: Array | None = None) -> Array:
    """All layers on h; each has a key of its own, or none."""
    hold = _hold.get()
    if self.depth <= FEW and self.remat is None:
      return self.loop()(hold(h), *args, key=key)
    graph, params = nnx.split(self.each)

    def layer(h: Array, one: Any) -> tuple[Array, None]:
      params, key = one
      return nnx.merge(graph, params)(hold(h), *args, key=key), None

    # A scan keeps the compiler from sharing what is computed twice.
    body = rematerialised(layer, self.remat, prevent_cse=False)
    keys = None if key is None else jax.random.split(key, self.depth)
    return jax.lax.scan(body, h, (params, keys))[0]

  def loop(self) -> 'Loop':
    """The layers one by one."""
    graph, params = nnx.split(self.each)
    leaves, tree = jax.tree.flatten(params)
    # The gradient of a split is one concatenation.
    parts = [jax.lax.split(x, [1] * self.depth) for x in leaves]
    return Loop(
      nnx.merge(graph, jax.tree.unflatten(tree, [x[0] for x in own]))
      for own in zip(*parts, strict=True)
    )


class Loop(nnx.List):
  """Layers that run in a Python loop."""

  def __call__(self, h: Array, *args: Any, key: Array | None = None) -> Array:
    """As that of a `Stack`."""
    keys = [None] * len(self)
    if key is not None:
      keys = list(jax.random.split(key, len(self)))
    for layer, own in zip(self, keys, strict=True):
      h = layer(h, *args, key=own)
    return h


def opened(model: nnx.Module) -> nnx.Module:
  """The network with loops for stacks, so that one can look at every layer."""
  for _, module in list(nnx.iter_modules(model)):
    for name, child in list(vars(module).items()):
      if isinstance(child, Stack):
        setattr(module, name, child.loop())
  return model
