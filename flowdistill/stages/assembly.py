"""A blueprint with its arrays: all inputs of training and evaluation."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.conditions_only import ConditionsOnly
from flowdistill.build.ema_snapshots import resolved
from flowdistill.build.models import on_devices, with_rows
from flowdistill.build.sampling import Generator, Guide
from flowdistill.datasets.pipeline import make_batches
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import CheckpointError, Checkpoints
from flowdistill.training.mesh import make_mesh
from flowdistill.training.roles import Params
from flowdistill.training.rounding import cast
from flowdistill.training.sharding import Layout
from flowdistill.training.state import TrainState, init_state
from flowdistill.workdir import folders, weights
from flowdistill.workdir.ema_snapshots import reconstruct
from flowdistill.workdir.folders import CHECKPOINTS
from flowdistill.workdir.pairs import load_pairs, pairs_origin
from flowdistill.workdir.record import weights_of_space
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Assembly:
  """A blueprint with its frozen weights and examples.

  Attributes:
    blueprint: the stage, abstractly.
    workdir: of the run, with the folders of earlier stages.
    layout: of arrays over all devices.
    frozen: name of a tree -> weights, see `Role.base`.
    references: role -> the origin of its weights; also that of `pairs`, or of
      the latents, and of the space.
    examples: training examples: those of the data set, or pairs.
  """

  blueprint: Blueprint
  workdir: pathlib.Path
  layout: Layout
  frozen: Mapping[str, Params]
  references: Mapping[str, str]
  examples: Any


def assemble(
  blueprint: Blueprint, workdir: pathlib.Path, layout: Layout | None = None
) -> Assembly:
  """Reads frozen weights and pairs, by default onto the mesh of the stage."""
  stage, layout = blueprint.stage, layout or lay_out(blueprint)
  loaded = {
    name: weights.load(name, abstract, layout)
    for name, abstract in blueprint.frozen.items()
  }
  origins = {
    weights.reference_key(name, role): loaded[role.base].origin
    for name, role in blueprint.roles.items()
    if role.base is not None
  }
  examples: Any = blueprint.data
  if stage.pairs is not None:
    examples = load_pairs(stage.pairs, workdir)
    origins['pairs'] = pairs_origin(stage.pairs, workdir)
  elif blueprint.data.record.pictures and not blueprint.data.is_recorded:
    lists = blueprint.data.source.manifest['lists']
    origins['latents'] = f'latents of sha256 {lists}'
  if (digest := blueprint.space.digest()) is not None:
    origins['space'] = weights_of_space(digest)
  return Assembly(
    blueprint=blueprint,
    workdir=workdir,
    layout=layout,
    frozen={name: trained.params for name, trained in loaded.items()},
    references=origins,
    examples=examples,
  )


def lay_out(blueprint: Blueprint) -> Layout:
  """The mesh of all devices, and its sharding rules."""
  mesh = blueprint.stage.mesh
  return Layout(make_mesh(mesh.sizes), mesh.rules)


def sampling_layout(blueprint: Blueprint) -> Layout:
  """`lay_out`, or data parallelism if the mesh does not fit these devices."""
  try:
    return lay_out(blueprint)
  except ValueError:
    return Layout(make_mesh(), blueprint.stage.mesh.rules)


def abstract_state(assembly: Assembly) -> TrainState:
  """The train state, abstractly, with its shardings."""
  return assembly.layout.abstract(assembly.blueprint.state)


def jit_step(assembly: Assembly) -> Callable[..., Any]:
  """The jitted train step; the buffers of the state are donated."""
  layout = assembly.layout
  shardings = layout.shardings(assembly.blueprint.state)
  out = (shardings, layout.replicated)
  step = with_rows(assembly.blueprint.step(), layout.constrain)
  return jax.jit(step, donate_argnums=0, out_shardings=out)


def batches(assembly: Assembly, start: int) -> Iterator[Any]:
  """Yields global batches from position `start`, on the devices.

  Images of a data set are encoded; pairs and latents are stored so. With
  `train.data_free` no image is opened, and x0 is 0.
  """
  blueprint, stage = assembly.blueprint, assembly.blueprint.stage
  raw = make_batches(
    training_source(assembly),
    batch_size=stage.train.batch_size,
    seed=stage.seed,
    start=start,
    process=assembly.layout.share(stage.train.batch_size),
  )
  for arrays in raw:
    batch = assembly.layout.batch(blueprint.sees.batch(arrays))
    if assembly.examples is blueprint.data and not stage.train.data_free:
      batch['x0'] = blueprint.encoded(batch['x0'])
    yield batch


def training_source(assembly: Assembly) -> Any:
  """The source of the batches: of images, of conditions alone, or pairs."""
  blueprint = assembly.blueprint
  if assembly.examples is not blueprint.data:
    return assembly.examples
  source = blueprint.data.source
  if not blueprint.stage.train.data_free:
    return source
  return ConditionsOnly(source, blueprint.sees)


def first_state(assembly: Assembly, saved: Checkpoints) -> TrainState:
  """The state of the last checkpoint, else of `resume`, else a fresh one."""
  if saved.latest() is not None:
    return restored(assembly, saved.folder)
  if (resume := assembly.blueprint.stage.resume) is not None:
    folder = folders.last_stage(folders.given_path(resume, repr(resume)))
    return restored(assembly, folder / CHECKPOINTS)
  return fresh_state(assembly)


def restored(
  assembly: Assembly, folder: pathlib.Path, step: int | None = None
) -> TrainState:
  """The state in a checkpoint, by default the last, as `checkpoint.restore`.

  Raises:
    CheckpointError: also if its name is not the step of its state.
  """
  state = checkpoint.restore(folder, abstract_state(assembly), step)
  named = checkpoint.completed_steps(folder)[-1] if step is None else step
  if (own := int(state.step)) != named:
    raise CheckpointError(
      f'the checkpoint {folder / str(named)} has the state of step {own}: it '
      'was renamed. Give it that name again, or remove it'
    )
  return state


def fresh_state(assembly: Assembly) -> TrainState:
  """The state of step 0, with the weights of `init_from` or from scratch."""
  blueprint, layout = assembly.blueprint, assembly.layout
  loaded = {
    name: weights.load(name, blueprint.weights(name), layout).params
    for name, role in blueprint.learners.items()
    if role.weights is not None and role.base is None
  }
  adapted = {n: r.base for n, r in blueprint.learners.items() if r.base}
  partial = [n for n in loaded if blueprint.learners[n].weights.matching]
  for name in partial:
    say_matching(blueprint, name, loaded[name])

  def start(loaded: Mapping[str, Params], frozen: Any) -> TrainState:
    params = {
      name: loaded[name]
      if name in loaded and name not in partial
      else blueprint.init(name)
      for name in blueprint.learners
    }
    for name in partial:
      params[name] = started(blueprint, name, params[name], loaded[name])
    for name, base in adapted.items():  # what learns in full starts from it
      wide = cast(on_devices(frozen[base]), 'float32')
      params[name] = started(blueprint, name, params[name], wide)
    return init_state(blueprint.learners, params)

  shardings = layout.shardings(blueprint.state)
  return jax.jit(start, out_shardings=shardings)(loaded, assembly.frozen)


def started(
  blueprint: Blueprint, name: str, fresh: Params, loaded: Params
) -> Params:
  """What a role trains, from other weights where they match, and from fresh."""
  model = blueprint.learners[name].model
  whole = model.whole(fresh, loaded)
  taken = weights.matching(whole, loaded)
  whole = model.derived(weights.take_matching(whole, loaded), taken)
  return weights.take_matching(fresh, whole)


def say_matching(blueprint: Blueprint, name: str, loaded: Params) -> None:
  """Prints how many arrays of a network start from loaded weights."""
  fresh = blueprint.learners[name].model.params
  say(
    f'{len(weights.matching(fresh, loaded))} of {len(jax.tree.leaves(fresh))} '
    f'arrays start from {blueprint.learners[name].weights.source}, the others '
    'are initialised'
  )


def sampled(
  assembly: Assembly, state: TrainState, which: str = 'ema'
) -> dict[str, Params]:
  """Role -> weights for sampling, of the roles that can be sampled.

  Those that learn have the weights `which`: ema, params, an EMA's name, or
  power:0.1.

  Raises:
    ConfigError: if these cannot be reconstructed at this step.
  """
  roles = {n: assembly.blueprint.roles[n] for n in assembly.blueprint.drawable}
  return {
    name: assembly.frozen[role.base or name]
    if role.learns is None
    else role.whole(_weights(assembly, state, name, which), assembly.frozen)
    for name, role in roles.items()
  }


def _weights(
  assembly: Assembly, state: TrainState, role: str, which: str
) -> Params:
  """The weights of a role that learn."""
  own, blueprint = state.roles[role], assembly.blueprint
  found = resolved(blueprint, role, which)
  if isinstance(found, str):
    return own.weights(found)
  step, layout = int(state.step), assembly.layout
  spelled = f'--weights={which}'
  return reconstruct(blueprint, role, found, step, own.emas, layout, spelled)


def generators(
  assembly: Assembly, params: Mapping[str, Params]
) -> dict[str, Generator]:
  """Role -> generator with the given parameters."""
  return {
    role: generator(assembly.blueprint, role, params, assembly.layout)
    for role in params
  }


def generator(
  blueprint: Blueprint,
  role: str,
  params: Mapping[str, Params],
  layout: Layout,
) -> Generator:
  """The generator of a role, on all devices of a layout.

  Args:
    blueprint: of the stage.
    role: that is sampled.
    params: role -> weights, of it and of those that may guide it.
    layout: of arrays over all devices.
  """
  model = blueprint.role(role).model
  others = {n: blueprint.role(n) for n in params if n != role}
  return Generator(
    apply=model.apply,
    params=params[role],
    spec=blueprint.sees,
    batch_size=blueprint.stage.evaluation.batch_size,
    scalars=model.scalars,
    layout=layout,
    space=blueprint.space,
    grid=blueprint.grid(role),
    answers=blueprint.answers(role),
    guides={
      name: Guide(
        other.model.apply,
        params[name],
        other.model.scalars,
        blueprint.answers(name),
      )
      for name, other in others.items()
      if other.is_drawable
    },
  )
