"""Work, memory and communication of a stage, from abstract shapes."""

import dataclasses
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.models import fetched_at_once
from flowdistill.config.bind import located
from flowdistill.evaluators.signature import Row
from flowdistill.planning.cost import call_flops, size_of, step_flops
from flowdistill.planning.memory import step_peak
from flowdistill.planning.program import nbytes
from flowdistill.planning.traffic import Transfer, gathered_bytes, traffic
from flowdistill.training.mesh import TENSOR, abstract_mesh, rows_per_device
from flowdistill.training.sharding import Layout

LARGEST = 5


def forecast(blueprint: Blueprint, devices: int) -> Row:
  """Parameters, work, and bytes per device of a stage, as a row.

  Raises:
    ConfigError: if the mesh does not make up the devices, or they do not
      divide the batch.
  """
  stage, layout = blueprint.stage, lay_out(blueprint, devices)
  work = step_flops(blueprint)
  return {
    'stage': blueprint.name,
    'devices': devices,
    'mesh': dict(layout.mesh.shape),
    'batch_size': stage.train.batch_size,
    'steps': blueprint.total,
    **size_of(blueprint),
    'flops_per_step': work,
    'forward_passes': work / call_flops(blueprint),
    'bytes_per_device': bytes_per_device(blueprint, layout),
    'traffic': transfers(blueprint, layout),
    'largest': largest(blueprint, layout),
    'buckets': buckets(blueprint, layout),
  }


def buckets(blueprint: Blueprint, layout: Layout) -> list[Row]:
  """A row for each shape of batches: a program is compiled for each."""
  return [
    {
      'pictures': list(pictures),
      'shape': list(bucket.sees.shape),
      'flops_per_step': step_flops(bucket),
      'batch': (found := bytes_per_device(bucket, layout))['batch'],
      'peak': found['peak'],
    }
    for pictures, bucket in zip(
      blueprint.data.buckets, blueprint.buckets, strict=True
    )
  ]


def lay_out(blueprint: Blueprint, devices: int) -> Layout:
  """The layout on a number of devices, which need not exist."""
  stage = blueprint.stage
  with located(blueprint.key('mesh')):
    mesh = abstract_mesh(stage.mesh.sizes, devices)
  with located(blueprint.key('train.batch_size')):
    rows_per_device(mesh, stage.train.batch_size)
  return Layout(mesh, stage.mesh.rules)


def inputs(blueprint: Blueprint, layout: Layout) -> tuple[Any, Any]:
  """The batch of one device, and a key, abstractly."""
  batch_size = blueprint.stage.train.batch_size
  rows = rows_per_device(layout.mesh, batch_size)
  return blueprint.batch(rows), jax.eval_shape(lambda: jax.random.key(0))


def bytes_per_device(blueprint: Blueprint, layout: Layout) -> dict[str, int]:
  """Name -> bytes, and `peak`, their maximum over time.

  The peak is less than the sum, as activations are freed while gradients are
  computed. Of offloaded networks, `offloaded` is in the memory of the host, and
  what a device fetches at once is among the temporaries. Along `fsdp`, a
  parameter is all-gathered where a layer reads it; those of frozen networks,
  which the backward pass does not read, are omitted, but for the base of LoRA.
  """
  state, frozen = blueprint.state, blueprint.frozen_params
  shards = layout.shards(state)
  roles, weights = shards.roles.values(), layout.shards(frozen)
  far = {n: p for n, p in weights.items() if is_offloaded(blueprint, n)}
  near = {n: p for n, p in weights.items() if n not in far}
  local = inputs(blueprint, layout)
  args = state, frozen, *local
  axes = layout.axes(args[:2], TENSOR) + [None] * len(jax.tree.leaves(local))
  parts = layout.mesh.shape[TENSOR]
  peak = step_peak(
    blueprint.step(), *args, shards=shards, axes=axes, parts=parts
  )
  gathered = max(
    sum(
      gathered_bytes(f, params, *args, layout=layout)
      for f, params in read_again(blueprint, name)
    )
    for name in state.roles
  )
  visiting = sum(map(fetched_at_once, far.values()))
  return {
    'parameters': _total([role.params for role in roles]),
    'ema': _total([role.emas for role in roles]),
    'optimiser': _total([role.opt_state for role in roles]),
    'frozen': _total(near),
    'offloaded': _total(far),
    'batch': _total(local),
    'gradients': _total([role.params for role in roles]),
    'activations': peak.activations,
    'temporaries': peak.temporaries + gathered + visiting,
    'peak': _total((shards, near, local)) + peak.total + gathered + visiting,
  }


def is_offloaded(blueprint: Blueprint, name: str) -> bool:
  """Whether a frozen tree is in the memory of the hosts."""
  return blueprint.frozen[name].reference.offload


def read_again(blueprint: Blueprint, name: str) -> list[tuple[Any, Any]]:
  """(f, params) of what a role's backward pass reads; see `own_gradients`."""
  own = own_gradients(blueprint, name), blueprint.state.roles[name].params
  base = blueprint.learners[name].base
  if base is None:
    return [own]
  gradients = blueprint.gradients(name)

  def f(params: Any, state: Any, frozen: Any, *rest: Any) -> Any:
    return gradients(state, {**frozen, base: params}, *rest)

  return [own, (f, blueprint.frozen_params[base])]


def own_gradients(blueprint: Blueprint, name: str) -> Any:
  """f(params, state, frozen, batch, key): gradients in `params`."""
  gradients = blueprint.gradients(name)

  def f(params: Any, state: Any, *rest: Any) -> Any:
    own = dataclasses.replace(state.roles[name], params=params)
    roles = {**state.roles, name: own}
    return gradients(dataclasses.replace(state, roles=roles), *rest)

  return f


def transfers(blueprint: Blueprint, layout: Layout) -> list[Transfer]:
  """Transfers of a device in a step that updates all roles, largest first."""
  local = inputs(blueprint, layout)
  sent = [
    transfer
    for name, role in blueprint.state.roles.items()
    for transfer in traffic(
      blueprint.gradients(name),
      blueprint.state,
      blueprint.frozen_params,
      *local,
      learns=role.params,
      layout=layout,
    )
  ]
  return sorted(sent, key=lambda t: -t.moved)


def largest(blueprint: Blueprint, layout: Layout) -> list[Row]:
  """The largest arrays of all networks, and how they are sharded."""
  params = [(name, r.params) for name, r in blueprint.state.roles.items()]
  rows = [
    {
      'role': role,
      'path': path,
      'shape': list(array.shape),
      'dtype': str(array.dtype),
      'bytes': nbytes(array),
      'cut': axes,
    }
    for role, weights in [*params, *blueprint.frozen_params.items()]
    for path, array, axes in layout.mesh_axes(weights)
  ]
  return sorted(rows, key=lambda row: -row['bytes'])[:LARGEST]


def _total(tree: Any) -> int:
  return sum(nbytes(x) for x in jax.tree.leaves(tree))
