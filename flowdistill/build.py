"""The only module that turns names in a config into objects."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from flowdistill import bind, config
from flowdistill.bind import Spec
from flowdistill.datasets import DATASETS
from flowdistill.datasets.source import Source
from flowdistill.evaluators import EVALUATORS
from flowdistill.flow.couplings import (
  ANNEALINGS,
  COUPLINGS,
  Annealing,
  Coupling,
)
from flowdistill.flow.guidance import GUIDANCE, ScaleLaw
from flowdistill.flow.times import TIME_PAIRS, TIMES, PairLaw, TimeLaw
from flowdistill.flow.weights import WEIGHTS, Weight
from flowdistill.networks import FEATURES, NETWORKS
from flowdistill.objectives import OBJECTIVES
from flowdistill.overrides import Override
from flowdistill.samplers import SAMPLERS
from flowdistill.samplers.draw import Draw, make_draw
from flowdistill.samplers.integrate import steps_for
from flowdistill.stage import (
  Dataset,
  Evaluator,
  Features,
  Network,
  Objective,
  Optimiser,
  Schedule,
  Stage,
)
from flowdistill.training import ema
from flowdistill.training.lengths import Length
from flowdistill.training.optim import (
  OPTIMISERS,
  SCHEDULES,
  make_optimiser,
)
from flowdistill.training.state import (
  Apply,
  Params,
  Trained,
  TrainState,
  init_state,
)

ROOMS: bind.Rooms = {
  Dataset: DATASETS,
  Network: NETWORKS,
  Objective: OBJECTIVES,
  TimeLaw: TIMES,
  PairLaw: TIME_PAIRS,
  Weight: WEIGHTS,
  Coupling: COUPLINGS,
  Annealing: ANNEALINGS,
  ScaleLaw: GUIDANCE,
  Optimiser: OPTIMISERS,
  Schedule: SCHEDULES,
  Features: FEATURES,
  Evaluator: EVALUATORS,
}


def load_stages(
  source: str, overrides: Iterable[Override] = ()
) -> dict[str, Spec]:
  """'FILE.py[:args]' and overrides -> stage name -> resolved dict.

  Raises:
    ConfigError: naming the key, the value and what would be right.
  """
  return config.load_stages(source, overrides, Stage, ROOMS)


def bind_stage(spec: Spec, where: str = '') -> Stage:
  """A resolved dict as a Stage whose named entries are bound functions."""
  return bind.bind(spec, Stage, where, ROOMS)


@dataclasses.dataclass(frozen=True)
class Model:
  """A network as a pure function, and the shapes of its parameters."""

  graph: Any
  params: Params

  def apply(self, params: Params, *args: Any, **kwargs: Any) -> jax.Array:
    """apply(params, x_t, t, s, cond, key=None) -> [b, ...]."""
    return make_apply(self.graph)(params, *args, **kwargs)


def make_apply(graph: Any, watch: Any = None) -> Apply:
  """The pure function of a network; `watch(model)` sees every merged one."""

  def apply(params, x_t, t, s, cond, key=None):
    model = nnx.merge(graph, params)
    if watch is not None:
      watch(model)
    return model(x_t, t, s, cond, key=key)

  return apply


def init_network(stage: Stage, source: Source) -> Any:
  """The stage's network with fresh parameters, a function of its seed."""
  return stage.network(
    source.shape, source.num_classes, rngs=nnx.Rngs(stage.seed)
  )


def init_params(stage: Stage, source: Source) -> Params:
  """Fresh parameters of the stage's network, a function of its seed."""
  return nnx.split(init_network(stage, source))[1]


def build_model(stage: Stage, source: Source) -> Model:
  """The stage's network by shapes alone."""
  module = nnx.eval_shape(lambda: init_network(stage, source))
  return Model(*nnx.split(module))


def build_trained(stage: Stage, source: Source) -> Trained:
  """How the student learns: objective, optimiser, EMAs."""
  size, batch_size = len(source), stage.train.batch_size
  accumulate = stage.optim.accumulate

  def to_updates(length: Length) -> int:
    return -(-length.to_steps(batch_size, size) // accumulate)

  schedule = stage.optim.schedule(to_updates(stage.train.length), to_updates)
  tx = make_optimiser(
    stage.optim.optimiser(schedule),
    clip=stage.optim.clip,
    accumulate=accumulate,
  )
  emas = {
    name: functools.partial(
      ema.advance,
      half_life=spec.half_life.to_steps(batch_size, size),
      ramp=spec.ramp,
      until=spec.until and spec.until.to_steps(batch_size, size),
    )
    for name, spec in stage.ema.items()
  }
  return Trained('student', stage.objective, tx, emas)


def total_steps(stage: Stage, source: Source) -> int:
  """The length of a stage in steps."""
  return stage.train.length.to_steps(stage.train.batch_size, len(source))


def abstract_state(stage: Stage, source: Source) -> TrainState:
  """The train state by shapes alone, as a checkpoint holds it."""
  trained = build_trained(stage, source)
  params = {'student': build_model(stage, source).params}
  return jax.eval_shape(lambda p: init_state([trained], p), params)


def conditions(
  batch: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, Any]:
  """A raw batch as objectives see it: `x0`, `cond`, `null` [b, ...]."""
  rest = {name: array for name, array in batch.items() if name != 'label'}
  if not num_classes:
    return {**rest, 'cond': {}, 'null': {}}
  label = batch['label']
  null = {'label': np.full_like(label, num_classes)}
  return {**rest, 'cond': {'label': label}, 'null': null}


def build_draw(model: Model, source: Source, stage: Stage) -> Draw:
  """draw(params, n, sampler=..., nfe=..., cond=..., seed=...)."""
  size = stage.evaluation.batch_size
  return make_draw(model.apply, source.shape, batch_size=size)


def check_sampler(sampler: str, nfe: int) -> None:
  """Checks that there is such a sampler, and that it can make `nfe` calls.

  Raises:
    ValueError: with the choices, or the nearest numbers of calls.
  """
  if sampler not in SAMPLERS:
    raise ValueError(
      f'there is no sampler {sampler!r}; {bind.suggest(sampler, SAMPLERS)}'
    )
  steps_for(SAMPLERS[sampler](lambda x, t, s: x).nfe, nfe)
