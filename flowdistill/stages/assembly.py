"""A stage with everything that it takes to train or to measure it."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax

from flowdistill.build import objects as build
from flowdistill.build.objects import Generator, Model
from flowdistill.config.sections import Stage
from flowdistill.datasets.pipeline import make_batches
from flowdistill.evaluators.signature import Row
from flowdistill.training import checkpoint, sharding
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.sharding import Layout
from flowdistill.training.state import Params, Trained, TrainState, init_state
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CHECKPOINTS
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Assembly:
  """A stage whose networks, data and frozen weights are there.

  Attributes:
    stage: what the config says.
    folder: of the stage.
    workdir: of the run, where earlier stages are.
    source: of the examples.
    measured: what evaluators measure against.
    examples: that are learnt from: those, or pairs.
    models: role -> network, of the student and of every frozen role.
    frozen: role -> weights.
    origins: role -> what it was loaded from, for the record; and the pairs.
    trained: how the student learns.
    total: steps of the stage.
    layout: of arrays over all devices.
  """

  stage: Stage
  folder: pathlib.Path
  workdir: pathlib.Path
  source: Any
  measured: Any
  examples: Any
  models: Mapping[str, Model]
  frozen: Mapping[str, Params]
  origins: Mapping[str, str]
  trained: Trained
  total: int
  layout: Layout


def assemble(
  spec: Mapping[str, Any], folder: pathlib.Path, workdir: pathlib.Path
) -> Assembly:
  """Builds a stage and reads the weights that it takes from earlier ones."""
  stage = build.bind_stage(spec)
  source, layout = stage.dataset(), lay_out(stage)
  loaded = {
    role: origins.load_weights(origin, workdir, layout)
    for role, origin in stage.frozen.items()
  }
  models = {role: trainee.model for role, trainee in loaded.items()}
  models['student'] = build.build_model(stage, source)
  examples, made_of = source, {}
  if stage.pairs is not None:
    examples = origins.open_pairs(stage.pairs, workdir)
    made_of['pairs'] = origins.describe_pairs(stage.pairs, workdir)
  return Assembly(
    stage=stage,
    folder=folder,
    workdir=workdir,
    source=source,
    measured=stage.evaluation.dataset() if stage.evaluation.dataset else source,
    examples=examples,
    models=models,
    frozen={role: trainee.params for role, trainee in loaded.items()},
    origins={
      role: origins.describe(stage.frozen[role], trainee)
      for role, trainee in loaded.items()
    }
    | made_of,
    trained=build.build_trained(stage, source),
    total=build.total_steps(stage, source),
    layout=layout,
  )


def lay_out(stage: Stage) -> Layout:
  """The mesh of all devices, and the rules for what lies on it."""
  return Layout(sharding.make_mesh(stage.mesh.sizes), stage.mesh.rules)


def abstract_state(assembly: Assembly) -> TrainState:
  """The train state by shapes and shardings alone."""
  state = build.abstract_state(assembly.stage, assembly.source)
  return assembly.layout.abstract(state)


def jit_step(assembly: Assembly) -> Callable[..., Any]:
  """The compiled train step; it takes over the buffers of the state."""
  stage, layout = assembly.stage, assembly.layout
  applies = {role: model.apply for role, model in assembly.models.items()}
  step = build.build_step(stage, assembly.trained, applies)
  kept = layout.shardings(abstract_state(assembly))
  out = (kept, layout.replicated)
  held = build.held(step, layout.constrain)
  return jax.jit(held, donate_argnums=0, out_shardings=out)


def batches(assembly: Assembly, start: int) -> Iterator[Any]:
  """Global batches from position `start`, on the devices."""
  stage = assembly.stage
  raw = make_batches(
    assembly.examples,
    batch_size=stage.train.batch_size,
    seed=stage.seed,
    start=start,
    process=assembly.layout.share(stage.train.batch_size),
  )
  for batch in raw:
    ready = build.conditions(batch, assembly.source.num_classes)
    yield assembly.layout.batch(ready)


def first_state(assembly: Assembly, saved: Checkpoints) -> TrainState:
  """Restored from 1 this workdir, 2 `resume`, 3 `init_from`, or 4 scratch."""
  stage, source = assembly.stage, assembly.source
  layout, abstract = assembly.layout, abstract_state(assembly)
  born = layout.shardings(abstract)
  if saved.latest() is not None:
    return saved.restore(abstract)
  if stage.resume is not None:
    folder = origins.last_stage(pathlib.Path(stage.resume).expanduser())
    return checkpoint.restore(folder / CHECKPOINTS, abstract)

  def start(params: Params) -> TrainState:
    return init_state([assembly.trained], {'student': params})

  if stage.init_from is None:
    scratch = jax.jit(
      lambda: start(build.init_params(stage, source)),
      out_shardings=born,
    )
    return scratch()
  loaded = origins.load_weights(stage.init_from, assembly.workdir, layout)

  if not stage.init_from.matching:
    return jax.jit(start, out_shardings=born)(loaded.params)
  fresh = assembly.models['student'].params
  taken = len(origins.matching(fresh, loaded.params))
  say(
    f'{taken} of {len(jax.tree.leaves(fresh))} arrays start from '
    f'{stage.init_from.source}, the others from scratch'
  )

  def complete(params: Params) -> TrainState:
    fresh = build.init_params(stage, source)
    return start(origins.take_matching(fresh, params))

  return jax.jit(complete, out_shardings=born)(loaded.params)


def sampled(assembly: Assembly, state: TrainState) -> dict[str, Params]:
  """Role -> whole weights to draw with, on this host; all hosts must ask."""
  stage = assembly.stage
  if not stage.evaluators:
    return {}
  params = {role: assembly.frozen[role] for role in stage.flows}
  params['student'] = state.roles['student'].sampled
  whole = assembly.layout.gather(params)
  return jax.tree.map(lambda x: x.addressable_data(0), whole)


def evaluate_stage(
  assembly: Assembly,
  weights: Mapping[str, Params],
  step: int,
  folder: pathlib.Path,
  names: Collection[str] | None = None,
) -> Iterator[Row]:
  """Runs the stage's evaluators; pictures go to `folder`/samples.

  Args:
    assembly: of the stage.
    weights: as `sampled` returns them.
    step: of the state that they are from.
    folder: of the pictures.
    names: of the evaluators; by default all.
  """
  stage = assembly.stage
  chosen = {
    name: evaluator
    for name, evaluator in stage.evaluators.items()
    if names is None or name in names
  }
  if not chosen:
    return
  features = stage.evaluation.features
  features = features() if features is not None else None
  models = draws(assembly, weights)
  for evaluator in chosen.values():
    for row in evaluator(models, assembly.measured, features, folder):
      yield {**row, 'step': step}


def draws(
  assembly: Assembly, weights: Mapping[str, Params]
) -> dict[str, Generator]:
  """Role -> model(n, sampler=..., nfe=..., cond=..., seed=...)."""
  return {
    role: build.build_generator(
      assembly.models[role],
      params,
      assembly.source,
      assembly.stage.evaluation.batch_size,
    )
    for role, params in weights.items()
  }
