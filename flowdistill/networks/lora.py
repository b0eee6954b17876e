"""Low-rank adaptation (LoRA) of any network: y = x W + (α / r) drop(x) A B.

W is frozen; A [..., n_in, r] and B [..., r, n_out] are trained. The kernel of
stacked layers, [depth, n_in, n_out], has an A and a B for each of them. In a
convolution A is one with the same window, to r channels. All arrays of the base
keep their paths, so that the tree of the network without LoRA is the base as it
is, and can be shared. B is 0 at initialisation: the network is its base.

Merging rounds: W + ΔW − ΔW is not W in floating point. So the base is never
overwritten; who has room for one tree only keeps what `remainder` returns, from
which `unmerged` restores W to the bit.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021),
https://arxiv.org/abs/2106.09685, section 4.1.
"""

import zlib
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.lora_layers import (
  FACTORS,
  KINDS,
  delta,
  give_key,
  why_not,
  width_of,
)

Array = jax.Array
KERNEL = 'kernel'
MASKS = zlib.crc32(b'lora')  # folded into the key of dropout
BITS = jnp.uint32


def named(path: Any) -> str:
  """('blocks', 'each', 'qkv') -> 'blocks.each.qkv'."""
  return '.'.join(map(str, path))


def layers_of(model: nnx.Module) -> dict[str, nnx.Module]:
  """Name -> module, of those that have arrays of their own."""
  return {
    named(path): module
    for path, module in nnx.iter_modules(model)
    if any(isinstance(v, nnx.Variable) for v in vars(module).values())
  }


def adapt(
  model: nnx.Module,
  *,
  rank: int,
  scale: float,
  dropout: float,
  layers: Collection[str],
  key: Array,
) -> nnx.Module:
  """The network with low-rank factors in some of its layers.

  Args:
    model: is changed.
    rank: of all updates.
    scale: α / r.
    dropout: rate, in [0, 1).
    layers: their names; see `layers_of`.
    key: for A, folded with the name of the layer.

  Raises:
    ValueError: for a layer that is neither linear nor a convolution, or whose
      kernel is narrower than the rank.
  """
  found = {path: m for path, m in nnx.iter_modules(model) if path}
  parents: dict[Any, Any] = {(): model, **found}
  for path, layer in found.items():
    if (name := named(path)) not in layers:
      continue
    if why := why_not(layer):
      raise ValueError(
        f'layers must be linear layers and convolutions: {name} {why}'
      )
    if rank > width_of(layer):
      raise ValueError(
        f'rank = {rank} must be at most {width_of(layer)}, the smaller width '
        f'of {name}'
      )
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    new = KINDS[type(layer)](
      layer, rank=rank, scale=scale, dropout=dropout, key=own
    )
    _put(parents[path[:-1]], path[-1], new)
  return model


def _put(parent: Any, key: Any, child: nnx.Module) -> None:
  """Replaces a module in the one around it."""
  if isinstance(parent, nnx.List):
    parent[key] = child
  else:
    setattr(parent, key, child)


def adapted_layers(model: nnx.Module) -> Iterator[tuple[Any, Any]]:
  """(path, layer) of those with factors."""
  kinds = tuple(KINDS.values())
  for path, module in nnx.iter_modules(model):
    if isinstance(module, kinds):
      yield path, module


def is_factor(path: Any) -> bool:
  """Whether the array at a path is an A or a B."""
  return path[-1] in FACTORS


def give_masks(model: nnx.Module, key: Array) -> None:
  """Gives every layer the key of its dropout mask, each of a stack its own.

  One key, one mask: so all calls of a step, primal and tangent, have the same.
  """
  key = jax.random.fold_in(key, MASKS)
  for path, layer in adapted_layers(model):
    own = jax.random.fold_in(key, zlib.crc32(named(path).encode()))
    stacked = layer.lora_b.shape[:-2]
    give_key(layer, jax.random.key_data(jax.random.split(own, stacked)))


def merged(model: nnx.Module) -> nnx.State:
  """The float32 parameters of the network without LoRA, W + (α / r) A B."""
  deltas = {path: delta(layer) for path, layer in adapted_layers(model)}

  def whole(path: Any, leaf: Any) -> Any:
    wide = leaf[...]
    if jnp.issubdtype(wide.dtype, jnp.floating):
      wide = wide.astype(jnp.promote_types(wide.dtype, jnp.float32))
    if path[-1] == KERNEL and path[:-1] in deltas:
      wide = wide + deltas[path[:-1]]
    return leaf.replace(wide)

  flat = nnx.to_flat_state(nnx.state(model))
  return nnx.from_flat_state(
    {path: whole(path, leaf) for path, leaf in flat if not is_factor(path)}
  )


def remainder(base: Any, merged: Any) -> Any:
  """What merging lost: the bits in which float32 weights differ, uint32."""
  return jax.tree.map(lambda w, m: _bits(w) ^ _bits(m), base, merged)


def unmerged(merged: Any, remainder: Any) -> Any:
  """The base of merged weights, to the bit, from what merging lost."""

  def restored(m: Array, lost: Array) -> Array:
    return jax.lax.bitcast_convert_type(_bits(m) ^ lost, jnp.float32)

  return jax.tree.map(restored, merged, remainder)


def _bits(x: Array) -> Array:
  return jax.lax.bitcast_convert_type(x, BITS)
