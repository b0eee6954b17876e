"""Finds what is wrong with a config by shapes alone, before any device."""

import contextlib
import functools
import itertools
import pathlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

from flowdistill import build, origins
from flowdistill.bind import ConfigError, Spec, join, located, suggest
from flowdistill.build import Model
from flowdistill.datasets.source import Source
from flowdistill.objectives.roles import PERCEPTUAL, MissingRole
from flowdistill.stage import Origin, Stage
from flowdistill.tracing import trace
from flowdistill.training import checkpoint
from flowdistill.training.state import TrainState

Found = tuple[Model, TrainState, Source]
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
  for name in stages:
    check_stage(name, stages, workdir, f'stages.{name}' if named else '')


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
  earlier = dict(itertools.takewhile(lambda s: s[0] != name, stages.items()))
  load = functools.partial(origin_state, stages=earlier, workdir=workdir)
  _check_start(stage, state, load, where)
  frozen = _frozen(stage, source, load, where)
  _check_roles(stage, stages[name], source, state, frozen, where)
  models = {role: model for role, (model, _) in frozen.items()}
  models['student'] = build.build_model(stage, source)
  _check_evaluators(stage, stages[name], models, source, where)


def origin_state(
  origin: Origin,
  where: str,
  *,
  stages: Mapping[str, Spec],
  workdir: pathlib.Path,
) -> Found:
  """The student of the stage that an origin names, by shapes, and its data.

  Raises:
    ConfigError: if it is none of `stages`, or no folder of a trained stage.
  """
  earlier = {f'stage:{name}': spec for name, spec in stages.items()}
  name = origin.source
  unknown = name.startswith('stage:') and name not in earlier
  if unknown or (name in stages and not pathlib.Path(name).exists()):
    raise ConfigError(
      f'config.{where} = {name!r} is no earlier stage; {suggest(name, earlier)}'
    )
  with _named(where):
    spec = earlier.get(name) or _load_spec(origin, workdir)
    stage = build.bind_stage(origins.network_of(spec, origin))
    source = stage.dataset()
    state = build.abstract_state(stage, source)
    return build.build_model(stage, source), state, source


def _load_spec(origin: Origin, workdir: pathlib.Path) -> Spec:
  folder = origins.folder_of(origin, workdir)
  spec = origins.load_spec(folder)
  if not checkpoint.completed_steps(folder / origins.CHECKPOINTS):
    raise ConfigError(f'{folder} has no complete checkpoint')
  return spec


@contextlib.contextmanager
def _named(where: str) -> Generator[None]:
  """Puts the key in front of an error about what it refers to."""
  try:
    yield
  except ValueError as error:
    raise ConfigError(f'config.{where}: {error}') from error


def check_same_shapes(wanted: Any, given: Any, where: str) -> None:
  """Raises ConfigError naming the first array that differs."""
  ours, theirs = _shapes(wanted), _shapes(given)
  for name in dict.fromkeys([*ours, *theirs]):
    if ours.get(name) != theirs.get(name):
      raise ConfigError(
        f'config.{where}: these weights do not fit. The first array that '
        f'differs is {name}: {theirs.get(name, "missing")} there, and '
        f'{ours.get(name, "missing")} in this stage'
      )


def _shapes(tree: Any) -> dict[str, list[int]]:
  arrays = checkpoint.by_name(tree)
  return {name: list(array.shape) for name, array in arrays.items()}


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
  features = stage.evaluation.features
  for name, evaluator in stage.evaluators.items():
    evaluator(roles, source, features, pathlib.Path())  # it draws when iterated
    for option in SWEEPS:
      sweep = spec['evaluators'][name].get(option, {})
      for role, entries in sweep.items():
        key = join(where, f'evaluators.{name}.{option}.{role}')
        for sampler, nfe, *rest in entries:
          with located(f'{key} has {[sampler, nfe, *rest]}'):
            check_sampling(models[role], source, sampler, nfe, dict(*rest))


def check_sampling(
  model: Model,
  source: Source,
  sampler: str,
  nfe: int | None,
  options: Mapping[str, Any],
) -> None:
  """Checks that one can draw from a network in this way.

  Raises:
    ValueError: for what `build.check_sampler` refuses, and for guidance where
      there is none.
  """
  guidance = options.get('guidance')
  told = 'guidance' in model.scalars
  if guidance is not None and not told and not source.num_classes:
    raise ValueError(
      f'guidance = {guidance!r} has no effect: this data set has no conditions'
    )
  for name in {'backwards', 'scalars'} & {*options}:
    raise ValueError(f'{sampler} takes no {name!r}')
  build.check_sampler(sampler, nfe, scalars=model.scalars, **options)


def _check_start(
  stage: Stage, state: TrainState, load: Load, where: str
) -> None:
  if stage.init_from is not None:
    key = join(where, 'init_from')
    if stage.init_from.dtype != Origin.dtype:
      raise ConfigError(f'config.{key}.dtype has an effect on frozen alone')
    weights = _weights(stage.init_from, load(stage.init_from, key)[1], key)
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
    frozen[role] = model, _weights(origin, state, key)
    if data.shape != source.shape or data.num_classes > source.num_classes:
      raise ConfigError(
        f'config.{key} = {origin.source!r} knows {_describe(data)}, and this '
        f'data set has {_describe(source)}'
      )
  return frozen


def _perceptual(origin: Origin, where: str) -> tuple[Model, Any]:
  if origin.weights != Origin.weights:
    raise ConfigError(
      f'config.{where}.weights = {origin.weights!r} has no effect: a file has '
      'one set of weights'
    )
  with _named(where):
    build.read_perceptual(origin.source)
  model = build.build_perceptual()
  return model, origins.kept_shapes(model.params, origin)


def _describe(source: Source) -> str:
  return f'examples {list(source.shape)} of {source.num_classes} classes'


def _weights(origin: Origin, state: TrainState, where: str) -> Any:
  with _named(where):
    return origins.abstract_weights(state, origin)


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
