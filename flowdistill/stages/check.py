"""Finds what is wrong with a config by shapes alone, before any device."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from flowdistill.build import objects as build
from flowdistill.build.check_sampling import check_sampling
from flowdistill.build.objects import Model
from flowdistill.build.tracing import trace
from flowdistill.config.bind import ConfigError, Spec, join, located, suggest
from flowdistill.config.files import TRAIN
from flowdistill.config.sections import Origin, Stage
from flowdistill.datasets.source import Source
from flowdistill.objectives.roles import PERCEPTUAL, MissingRole
from flowdistill.stages.check_pairs import check_pair_stage, check_pairs
from flowdistill.stages.references import (
  Found,
  before,
  check_knows,
  check_same_shapes,
  describe,
  named,
  origin_state,
  weights_at,
)
from flowdistill.training.state import TrainState
from flowdistill.workdir import origins

Load = Callable[[Origin, str], Found]
SWEEPS = ('sweep', 'reference')  # options of evaluators that hold samplers


def check_stages(
  stages: Mapping[str, Spec], workdir: pathlib.Path, *, named: bool
) -> None:
  """Builds every stage by shapes and traces its loss.

  Raises:
    ConfigError: for a value out of range, a role that is missing or has no
      effect, weights that do not fit, a condition that does not exist.
  """
  for name, spec in stages.items():
    where = f'stages.{name}' if named else ''
    if spec['job'] == TRAIN:
      check_stage(name, stages, workdir, where)
    else:
      check_pair_stage(name, stages, workdir, where)


def check_stage(
  name: str, stages: Mapping[str, Spec], workdir: pathlib.Path, where: str
) -> None:
  """Checks one stage; see `check_stages`."""
  stage = build.bind_stage(stages[name], where)
  source = stage.dataset()
  build.build_model(stage, source)
  with located(join(where, 'optim'), ('clip', 'accumulate')):
    state = build.abstract_state(stage, source)
  _check_effects(stage, source, where)
  earlier = before(name, stages)
  load = functools.partial(origin_state, stages=earlier, workdir=workdir)
  _check_start(stage, state, load, where)
  check_pairs(stage, source, earlier, where)
  frozen = _frozen(stage, source, load, where)
  _check_roles(stage, stages[name], source, state, frozen, where)
  models = {role: model for role, (model, _) in frozen.items()}
  models['student'] = build.build_model(stage, source)
  _check_evaluators(stage, stages[name], models, source, where)


def _check_effects(stage: Stage, source: Source, where: str) -> None:
  given, why = stage.evaluation, {}
  if not source.num_classes and stage.train.drop_cond:
    why['train.drop_cond'] = 'this data set has no conditions to drop'
  if len(source.shape) != 3 and stage.train.flip:
    why['train.flip'] = 'these examples are no images'
  if not stage.evaluators and given.every is not None:
    why['evaluation.every'] = 'there are no evaluators'
  if not stage.evaluators and given.features is not None:
    why['evaluation.features'] = 'there are no evaluators'
  if not stage.evaluators and given.dataset is not None:
    why['evaluation.dataset'] = 'there are no evaluators'
  for name in given.schedules.keys() - stage.evaluators.keys():
    why[f'evaluation.schedules.{name}'] = (
      f'there is no such evaluator; {suggest(name, stage.evaluators)}'
    )
  if stage.checkpoint.best and given.every is None:
    why['checkpoint.best'] = 'evaluation.every does not say when to measure'
  if stage.init_from is not None and stage.resume is not None:
    why['init_from'] = 'resume takes over a whole state'
  for key, reason in why.items():
    raise ConfigError(f'config.{join(where, key)} has no effect: {reason}')


def _check_evaluators(
  stage: Stage,
  spec: Spec,
  models: Mapping[str, Model],
  source: Source,
  where: str,
) -> None:
  roles: Any = dict.fromkeys(['student', *stage.flows])
  features, held = stage.evaluation.features, stage.evaluation.dataset
  real = held() if held else source
  if (real.shape, real.num_classes) != (source.shape, source.num_classes):
    key = join(where, 'evaluation.dataset')
    raise ConfigError(
      f'config.{key} has {describe(real)}, and the stage {describe(source)}'
    )
  for name, evaluator in stage.evaluators.items():
    evaluator(roles, real, features, pathlib.Path())  # it draws when iterated
    for option in SWEEPS:
      sweep = spec['evaluators'][name].get(option, {})
      for role, entries in sweep.items():
        key = join(where, f'evaluators.{name}.{option}.{role}')
        for sampler, nfe, *rest in entries:
          with located(f'{key} has {[sampler, nfe, *rest]}'):
            check_sampling(models[role], source, sampler, nfe, dict(*rest))


def _check_start(
  stage: Stage, state: TrainState, load: Load, where: str
) -> None:
  if stage.init_from is not None:
    key = join(where, 'init_from')
    if stage.init_from.dtype != Origin.dtype:
      raise ConfigError(f'config.{key}.dtype has an effect on frozen alone')
    weights = weights_at(stage.init_from, load(stage.init_from, key)[1], key)
    fresh = state.roles['student'].params
    if not stage.init_from.matching:
      check_same_shapes(fresh, weights, key)
    elif not origins.matching(fresh, weights):
      raise ConfigError(
        f'config.{key}: no array there has the name and the shape of one of '
        "this stage's network"
      )
  if stage.resume is not None:
    key = join(where, 'resume')
    if stage.resume.startswith('stage:'):
      raise ConfigError(
        f'config.{key} = {stage.resume!r} is no folder of a stage; to start '
        'from an earlier stage of this config, there is init_from'
      )
    check_same_shapes(state, load(Origin(stage.resume), key)[1], key)


def _frozen(
  stage: Stage, source: Source, load: Load, where: str
) -> dict[str, tuple[Model, Any]]:
  frozen = {}
  for role, origin in stage.frozen.items():
    key = join(where, f'frozen.{role}')
    if origin.matching:
      raise ConfigError(
        f'config.{key}.matching has an effect on init_from alone'
      )
    if role == PERCEPTUAL:
      frozen[role] = _perceptual(origin, key)
      continue
    model, state, data = load(origin, key)
    frozen[role] = model, weights_at(origin, state, key)
    check_knows(data, source, f'{key} = {origin.source!r}')
  return frozen


def _perceptual(origin: Origin, where: str) -> tuple[Model, Any]:
  if origin.weights != Origin.weights:
    raise ConfigError(
      f'config.{where}.weights = {origin.weights!r} has no effect: a file has '
      'one set of weights'
    )
  with named(where):
    build.read_perceptual(origin.source)
  model = build.build_perceptual()
  return model, origins.kept_shapes(model.params, origin)


def _check_roles(
  stage: Stage,
  spec: Spec,
  source: Source,
  state: TrainState,
  frozen: Mapping[str, tuple[Model, Any]],
  where: str,
) -> None:
  try:
    asked = trace(stage, source, state, frozen)
  except MissingRole as error:
    raise ConfigError(f'config.{join(where, "objective")}: {error}') from error
  if stage.pairs is not None and 'x1' not in asked.read:
    raise ConfigError(
      f'config.{join(where, "pairs")} has no effect: the objective draws noise '
      "of its own; there are the couplings 'paired' and 'annealed'"
    )
  for role in stage.frozen:
    if role not in asked.roles:
      raise ConfigError(
        f'config.{join(where, "frozen")}.{role} has no effect: the objective '
        f'asks only for {sorted(asked.roles)}'
      )
  _check_told(asked.told, stage, spec, source, where)


def _check_told(
  told: set[str], stage: Stage, spec: Spec, source: Source, where: str
) -> None:
  """Refuses to draw a condition that the student's network does not take."""
  unheard = told - set(build.build_model(stage, source).scalars)
  law = spec['objective'].get('guidance')
  if isinstance(law, Mapping) and law['name'] == 'fixed':
    unheard -= {'guidance'}  # It is the same for all: nothing to be told.
  if unheard:
    raise ConfigError(
      f'config.{join(where, "network")}.scalars: the objective draws '
      f'{sorted(unheard)} for every example, and this network does not take '
      f'it; it must have scalars = {sorted(told)}'
    )
