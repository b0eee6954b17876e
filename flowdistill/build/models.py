"""Networks as pure functions, with the shapes of their parameters."""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Collection
from typing import Any

import jax
from flax import nnx

from flowdistill.networks.lora import give_masks, merged
from flowdistill.networks.offload import (
  fetched,
  fetched_but_stacks,
  is_stacked,
)
from flowdistill.networks.sd3_positions import Table
from flowdistill.networks.stack import (
  FEW,
  constrain_layer_inputs,
  unstacked,
)
from flowdistill.training.roles import AVERAGE, Params

Make = Callable[[], nnx.Module]


@dataclasses.dataclass(frozen=True)
class Model:
  """A network, abstractly.

  Attributes:
    graph: of the network.
    params: abstract parameters.
    scalars: names of the scalar conditions [b] that it takes.
    signature: the kind of its output, see `training/roles.py`.
    watch: see `make_apply`.
    project: (params after an update, before it) -> params; None leaves them.
    plain: the network that `params`, low-rank factors, adapt, with the frozen
      ones; None if `params` are all that it has.
    derive: (all params, names of those that come from other weights) -> params,
      in which others are made of these; None leaves them.
  """

  graph: Any
  params: Params
  scalars: tuple[str, ...] = ()
  signature: str = AVERAGE
  watch: Callable[[nnx.Module], None] | None = None
  project: Callable[[Params, Params], Params] | None = None
  plain: 'Model | None' = None
  derive: Callable[[Params, Collection[str]], Params] | None = None

  def derived(self, params: Params, taken: Collection[str]) -> Params:
    """Parameters, some of them taken from other weights, as `derive` says."""
    return params if self.derive is None else self.derive(params, taken)

  def apply(self, params: Params, *args: Any, **kwargs: Any) -> jax.Array:
    """apply(params, x_t, t, s, cond, key=None) -> [b, ...], of all params."""
    return make_apply(self.graph, self.watch)(params, *args, **kwargs)

  def aligned(
    self, params: Params, *args: Any, **kwargs: Any
  ) -> tuple[jax.Array, jax.Array]:
    """What `apply` answers, and the features of a hidden layer.

    Raises:
      ValueError: if the network makes none.
    """
    ask = make_apply(self.graph, self.watch, ask_aligned)
    return ask(params, *args, **kwargs)

  def whole(self, params: Params, base: Params) -> Params:
    """All parameters: those that learn, and the others from the base."""
    if self.plain is None:
      return params
    own = dict(nnx.to_flat_state(params))
    frozen = dict(nnx.to_flat_state(base))
    wanted = [path for path, _ in nnx.to_flat_state(self.plain.params)]
    rest = {path: frozen[path] for path in wanted if path not in own}
    return nnx.from_flat_state({**rest, **own})

  @property
  def complete(self) -> Params:
    """All parameters, abstractly, as `apply` takes them."""
    if self.plain is None:
      return self.params
    return self.whole(self.params, self.plain.params)

  def merged(self, params: Params) -> Params:
    """All parameters as those of `plain`, in float32."""
    return merged(nnx.merge(self.graph, fetched(params)))


def make_apply(
  graph: Any, watch: Any = None, call: Callable[..., Any] = operator.call
) -> Callable[..., Any]:
  """The pure function of a network, whose answer is call(model, *inputs).

  `watch(model)` is called with every merged module, its stacked layers split.
  """

  def apply(params, *args, **kwargs):
    model = nnx.merge(graph, fetched_but_stacks(params))
    if kwargs.get('key') is not None:
      give_masks(model, kwargs['key'])
    if watch is not None:
      watch(unstacked(model))
    return call(model, *args, **kwargs)

  return apply


def ask_aligned(model: Any, *args: Any, **kwargs: Any) -> Any:
  """What a network answers, and the features of a hidden layer.

  Raises:
    ValueError: if it cannot make any.
  """
  if not hasattr(model, 'aligned'):
    raise ValueError(
      "network.name must be 'unet', of which a hidden layer can be aligned "
      f'with features; a {type(model).__name__} has none'
    )
  return model.aligned(*args, **kwargs)


def shape_model(make: Make) -> Model:
  """The network that `make()` initialises, abstractly (jax.eval_shape)."""
  module = nnx.eval_shape(make)
  scalars = getattr(module, 'scalars', None)
  return Model(
    *nnx.split(module),
    scalars.names if scalars else (),
    getattr(module, 'signature', AVERAGE),
    project=getattr(module, 'project', None),
    derive=getattr(module, 'derive', None),
  )


def on_devices(params: Params) -> Params:
  """Parameters, of which those on the host are fetched."""
  return fetched(params)


def fetched_at_once(params: Params) -> int:
  """Bytes of parameters on the host that a device has at the same time.

  Of a stack they are those of two layers, of one that runs and of the next; of
  a few layers, which may be unrolled, all of them.
  """
  total, layers = 0, 0
  for path, x in jax.tree.leaves_with_path(params):
    size = math.prod(x.shape) * x.dtype.itemsize
    if is_stacked(path) and x.shape[0] > FEW:
      layers += 2 * size // x.shape[0]
    else:
      total += size
  return total + layers


def stored(params: Params) -> int:
  """Entries of tables that are stored with parameters, and are none."""
  flat = nnx.to_flat_state(params)
  tables = [leaf.get_value() for _, leaf in flat if isinstance(leaf, Table)]
  return sum(math.prod(table.shape) for table in tables)


def init_params(make: Make) -> Params:
  """The parameters of the network that `make()` initialises."""
  return nnx.split(make())[1]


def with_rows(
  f: Callable[..., Any], hold: Callable[[jax.Array], jax.Array]
) -> Callable[..., Any]:
  """f, with `hold` as the sharding constraint on the inputs of layers."""

  @functools.wraps(f)
  def wrapped(*args: Any) -> Any:
    with constrain_layer_inputs(hold):
      return f(*args)

  return wrapped
