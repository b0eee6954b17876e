"""What a stage will take, calculated from shapes: no weights, no devices."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.build.tracing import batch_shapes
from flowdistill.config.bind import Spec, located
from flowdistill.config.files import ONE_STAGE
from flowdistill.config.sections import Stage
from flowdistill.datasets.source import Source
from flowdistill.evaluators.signature import Row
from flowdistill.objectives.roles import PERCEPTUAL
from flowdistill.planning.cost import call_flops, size_of
from flowdistill.planning.flops import flops
from flowdistill.planning.memory import step_peak
from flowdistill.planning.program import nbytes
from flowdistill.planning.traffic import Transfer, gathered_bytes, traffic
from flowdistill.stages import references as lineage
from flowdistill.training import sharding
from flowdistill.training.sharding import TENSOR, Layout
from flowdistill.training.state import TrainState, gradients
from flowdistill.workdir import origins

LARGEST = 5


@dataclasses.dataclass(frozen=True)
class Draft:
  """A stage by shapes alone, with its step.

  Attributes:
    stage, source: what the config says.
    student: the network that learns.
    state: of training.
    frozen: role -> weights.
    step: train_step(state, frozen, batch, key), not jitted.
    gradients: loss and gradient of the same arguments, without the update.
  """

  stage: Stage
  source: Source
  student: Model
  state: TrainState
  frozen: Mapping[str, Any]
  step: Callable[..., Any]
  gradients: Callable[..., Any]

  def loss_of(self, params: Any, state: TrainState, *rest: Any) -> Any:
    """Loss and gradient with parameters of their own."""
    student = dataclasses.replace(state.roles['student'], params=params)
    roles = {**state.roles, 'student': student}
    return self.gradients(dataclasses.replace(state, roles=roles), *rest)

  def inputs(self, rows: int | None = None) -> tuple[Any, Any]:
    """A batch, of so many rows or whole, and a key."""
    batch = batch_shapes(self.stage, self.source)
    batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((rows or len(x), *x.shape[1:]), x.dtype),
      batch,
    )
    return batch, jax.eval_shape(lambda: jax.random.key(0))


def draft(
  name: str, stages: Mapping[str, Spec], workdir: pathlib.Path
) -> Draft:
  """A stage of a config; neither it nor an earlier one need be trained."""
  stage = build.bind_stage(stages[name])
  source = stage.dataset()
  earlier = lineage.before(name, stages)
  frozen = _networks(stage, earlier, workdir)
  student = build.build_model(stage, source)
  applies = {role: model.apply for role, (model, _) in frozen.items()}
  applies['student'] = student.apply
  trained = build.build_trained(stage, source)

  def loss_and_gradient(state, frozen, batch, key):
    return gradients(trained, state, frozen, applies, batch, key, key)

  return Draft(
    stage=stage,
    source=source,
    student=student,
    state=build.abstract_state(stage, source),
    frozen={role: weights for role, (_, weights) in frozen.items()},
    step=build.build_step(stage, trained, applies),
    gradients=loss_and_gradient,
  )


def _networks(
  stage: Stage, earlier: Mapping[str, Spec], workdir: pathlib.Path
) -> dict[str, tuple[Model, Any]]:
  """Frozen role -> its network, and its weights by shapes."""
  found = {}
  for role, origin in stage.frozen.items():
    if role == PERCEPTUAL:
      model = build.build_perceptual()
      found[role] = model, origins.kept_shapes(model.params, origin)
      continue
    model, state, _ = lineage.origin_state(
      origin, f'frozen.{role}', stages=earlier, workdir=workdir
    )
    found[role] = model, origins.abstract_weights(state, origin)
  return found


def forecast(name: str, made: Draft, devices: int) -> Row:
  """Parameters, work, and bytes per device of a stage, as a row.

  Raises:
    ConfigError: if the mesh does not make up the devices, or they do not
      divide the batch.
  """
  stage, layout = made.stage, lay_out(name, made.stage, devices)
  work = flops(made.step, made.state, made.frozen, *made.inputs())
  return {
    'stage': name,
    'devices': devices,
    'mesh': dict(layout.mesh.shape),
    'batch_size': stage.train.batch_size,
    'steps': build.total_steps(stage, made.source),
    **size_of(stage, made.source, made.student),
    'flops_per_step': work,
    'forward_passes': work / call_flops(stage, made.source, made.student),
    'bytes_per_device': bytes_per_device(made, layout),
    'traffic': transfers(made, layout),
    'largest': largest(made, layout),
  }


def lay_out(name: str, stage: Stage, devices: int) -> Layout:
  """The layout on so many devices, which need not be here.

  Raises:
    ConfigError: if the mesh or the batch do not divide.
  """
  where = '' if name == ONE_STAGE else f'stages.{name}.'
  with located(f'{where}mesh'):
    mesh = sharding.abstract_mesh(stage.mesh.sizes, devices)
  with located(f'{where}train.batch_size'):
    sharding.rows_per_device(mesh, stage.train.batch_size)
  return Layout(mesh, stage.mesh.rules)


def bytes_per_device(made: Draft, layout: Layout) -> dict[str, int]:
  """Name -> bytes, and `peak`, those of the moment that needs most.

  The peak is less than the sum, for gradients come when activations go. Along
  `fsdp`, a parameter is put together where a layer reads it; those of frozen
  networks, which no gradient reads again, are not counted.
  """
  held = layout.shards(made.state)
  student = held.roles['student']
  frozen = {role: layout.shards(w) for role, w in made.frozen.items()}
  rows = sharding.rows_per_device(layout.mesh, made.stage.train.batch_size)
  inputs = made.inputs(rows)
  args = made.state, made.frozen, *inputs
  cuts = layout.axes(args[:2], TENSOR) + [None] * len(jax.tree.leaves(inputs))
  parts = layout.mesh.shape[TENSOR]
  peak = step_peak(made.step, *args, shards=held, axes=cuts, parts=parts)
  params = made.state.roles['student'].params
  gathered = gathered_bytes(made.loss_of, params, *args, layout=layout)
  return {
    'parameters': _total(student.params),
    'ema': _total(student.emas),
    'optimiser': _total(student.opt_state),
    'frozen': _total(frozen),
    'batch': _total(inputs),
    'gradients': _total(student.params),
    'activations': peak.activations,
    'temporaries': peak.temporaries + gathered,
    'peak': _total((held, frozen, inputs)) + peak.total + gathered,
  }


def transfers(made: Draft, layout: Layout) -> list[Transfer]:
  """What a device sends and receives in a step, from most to least."""
  rows = sharding.rows_per_device(layout.mesh, made.stage.train.batch_size)
  found = traffic(
    made.gradients,
    made.state,
    made.frozen,
    *made.inputs(rows),
    learns=made.state.roles['student'].params,
    layout=layout,
  )
  return sorted(found, key=lambda t: -t.moved)


def largest(made: Draft, layout: Layout) -> list[Row]:
  """The largest arrays of the student and frozen networks, and their cuts."""
  params = made.state.roles['student'].params
  found = [
    {
      'role': role,
      'path': path,
      'shape': list(array.shape),
      'dtype': str(array.dtype),
      'bytes': nbytes(array),
      'cut': cut,
    }
    for role, weights in {'student': params, **made.frozen}.items()
    for path, array, cut in layout.mesh_axes(weights)
  ]
  return sorted(found, key=lambda row: -row['bytes'])[:LARGEST]


def _total(tree: Any) -> int:
  return sum(nbytes(x) for x in jax.tree.leaves(tree))
