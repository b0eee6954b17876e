"""A blueprint with arrays: what it takes to train a stage or to measure it."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.models import with_rows
from flowdistill.build.sampling import Generator
from flowdistill.datasets.pipeline import make_batches
from flowdistill.evaluators.signature import Row
from flowdistill.training import checkpoint, sharding
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.roles import Params
from flowdistill.training.sharding import Layout
from flowdistill.training.state import TrainState, init_state
from flowdistill.workdir import folders, weights
from flowdistill.workdir.folders import CHECKPOINTS
from flowdistill.workdir.pairs import load_pairs, pairs_origin
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Assembly:
  """A blueprint whose frozen weights and examples are there.

  Attributes:
    blueprint: the stage, abstractly.
    workdir: of the run, where earlier stages are.
    layout: of arrays over all devices.
    frozen: name of a tree -> weights, see `Role.base`.
    references: role -> what its weights were read from; and the pairs.
    examples: that are trained on: the data set's, or pairs.
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
  """Reads what a stage takes from earlier ones; by default onto its mesh."""
  stage, layout = blueprint.stage, layout or lay_out(blueprint)
  loaded = {
    name: weights.load(name, given, layout)
    for name, given in blueprint.frozen.items()
  }
  origins = {
    name: loaded[role.base].origin
    for name, role in blueprint.roles.items()
    if role.base is not None
  }
  examples: Any = blueprint.data
  if stage.pairs is not None:
    examples = load_pairs(stage.pairs, workdir)
    origins['pairs'] = pairs_origin(stage.pairs, workdir)
  return Assembly(
    blueprint=blueprint,
    workdir=workdir,
    layout=layout,
    frozen={name: trained.params for name, trained in loaded.items()},
    references=origins,
    examples=examples,
  )


def lay_out(blueprint: Blueprint) -> Layout:
  """The mesh of all devices, and the rules for what lies on it."""
  mesh = blueprint.stage.mesh
  return Layout(sharding.make_mesh(mesh.sizes), mesh.rules)


def sampling_layout(blueprint: Blueprint) -> Layout:
  """That layout; where these devices do not make up the mesh, rows alone."""
  try:
    return lay_out(blueprint)
  except ValueError:
    return Layout(sharding.make_mesh(), blueprint.stage.mesh.rules)


def abstract_state(assembly: Assembly) -> TrainState:
  """The train state, abstractly, with its shardings."""
  return assembly.layout.abstract(assembly.blueprint.state)


def jit_step(assembly: Assembly) -> Callable[..., Any]:
  """The compiled train step; it takes over the buffers of the state."""
  layout = assembly.layout
  shardings = layout.shardings(assembly.blueprint.state)
  out = (shardings, layout.replicated)
  step = with_rows(assembly.blueprint.step(), layout.constrain)
  return jax.jit(step, donate_argnums=0, out_shardings=out)


def batches(assembly: Assembly, start: int) -> Iterator[Any]:
  """Global batches from position `start`, on the devices.

  Pairs are in the networks' space; a data set's pictures are encoded.
  """
  blueprint, stage = assembly.blueprint, assembly.blueprint.stage
  source = assembly.examples
  raw = make_batches(
    source.source if source is blueprint.data else source,
    batch_size=stage.train.batch_size,
    seed=stage.seed,
    start=start,
    process=assembly.layout.share(stage.train.batch_size),
  )
  for arrays in raw:
    batch = assembly.layout.batch(blueprint.sees.batch(arrays))
    if source is blueprint.data:
      batch['x0'] = blueprint.space.encode(batch['x0'])
    yield batch


def first_state(assembly: Assembly, saved: Checkpoints) -> TrainState:
  """Restored from 1 this workdir, 2 `resume`, 3 `init_from`, or 4 scratch."""
  abstract = abstract_state(assembly)
  if saved.latest() is not None:
    return saved.restore(abstract)
  if (resume := assembly.blueprint.stage.resume) is not None:
    folder = folders.last_stage(pathlib.Path(resume).expanduser())
    return checkpoint.restore(folder / CHECKPOINTS, abstract)
  return fresh_state(assembly)


def fresh_state(assembly: Assembly) -> TrainState:
  """The state of step 0, with the weights that `init_from` names."""
  blueprint, layout = assembly.blueprint, assembly.layout
  given = {
    name: weights.load(name, blueprint.weights(name), layout).params
    for name, role in blueprint.learners.items()
    if role.weights is not None
  }
  partial = [n for n in given if blueprint.learners[n].weights.matching]
  for name in partial:
    say_matching(blueprint, name, given[name])

  def start(given: Mapping[str, Params]) -> TrainState:
    params = {
      name: given[name]
      if name in given and name not in partial
      else blueprint.init(name)
      for name in blueprint.learners
    }
    params |= {
      name: weights.take_matching(params[name], given[name]) for name in partial
    }
    return init_state(blueprint.learners, params)

  born = layout.shardings(blueprint.state)
  return jax.jit(start, out_shardings=born)(given)


def say_matching(blueprint: Blueprint, name: str, given: Params) -> None:
  """Says how many arrays of a network start from given weights."""
  fresh = blueprint.learners[name].model.params
  say(
    f'{len(weights.matching(fresh, given))} of {len(jax.tree.leaves(fresh))} '
    f'arrays start from {blueprint.learners[name].weights.source}, the others '
    'are initialised'
  )


def sampled(assembly: Assembly, state: TrainState) -> dict[str, Params]:
  """Role -> weights to draw with, of the roles that can be drawn from."""
  blueprint = assembly.blueprint
  if not blueprint.stage.evaluators:
    return {}
  roles = {name: blueprint.roles[name] for name in blueprint.drawable}
  return {
    name: state.roles[name].sampled
    if role.base is None
    else assembly.frozen[role.base]
    for name, role in roles.items()
  }


def evaluate_stage(
  assembly: Assembly,
  params: Mapping[str, Params],
  step: int,
  folder: pathlib.Path,
  names: Collection[str] | None = None,
) -> Iterator[Row]:
  """Runs the stage's evaluators, on all hosts."""
  blueprint = assembly.blueprint
  stage = blueprint.stage
  chosen = [
    evaluator
    for name, evaluator in stage.evaluators.items()
    if names is None or name in names
  ]
  if not chosen:
    return
  features = stage.evaluation.features
  features = features() if features is not None else None
  models = generators(assembly, params)
  for evaluator in chosen:
    for row in evaluator(models, blueprint.measured, features, folder):
      yield {**row, 'step': step}


def generators(
  assembly: Assembly, params: Mapping[str, Params]
) -> dict[str, Generator]:
  """Role -> model(n, sampler=..., nfe=..., cond=..., seed=...)."""
  blueprint = assembly.blueprint
  return {
    role: generator(blueprint, role, weights, assembly.layout)
    for role, weights in params.items()
  }


def generator(
  blueprint: Blueprint, role: str, params: Params, layout: Layout
) -> Generator:
  """A role with weights, as samples are drawn from it, over a mesh."""
  model = blueprint.roles[role].model
  return Generator(
    apply=model.apply,
    params=params,
    spec=blueprint.sees,
    batch_size=blueprint.stage.evaluation.batch_size,
    scalars=model.scalars,
    layout=layout,
    space=blueprint.space,
  )
