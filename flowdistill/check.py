"""Finds what is wrong with a config by shapes alone, before any device."""

import contextlib
import functools
import itertools
import pathlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill import build, origins
from flowdistill.bind import ConfigError, Spec, join, located, suggest
from flowdistill.build import Model
from flowdistill.datasets.source import Source
from flowdistill.objectives.roles import MissingRole, Roles
from flowdistill.stage import Origin, Stage
from flowdistill.training import checkpoint
from flowdistill.training.state import TrainState, make_roles

Found = tuple[Model, TrainState, Source]
Load = Callable[[Origin, str], Found]


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
  _check_roles(stage, source, state, frozen, where)
  _check_evaluators(stage, stages[name], source, where)


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
    stage = build.bind_stage(spec)
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
  if not stage.evaluators and given.every is not None:
    why['evaluation.every'] = 'there are no evaluators'
  if not stage.evaluators and given.features is not None:
    why['evaluation.features'] = 'there are no evaluators'
  if stage.init_from is not None and stage.resume is not None:
    why['init_from'] = 'resume takes over a whole state'
  for key, reason in why.items():
    raise ConfigError(f'config.{join(where, key)} has no effect: {reason}')


def _check_evaluators(
  stage: Stage, spec: Spec, source: Source, where: str
) -> None:
  roles: Any = dict.fromkeys(['student', *stage.frozen])
  features = stage.evaluation.features
  for name, evaluator in stage.evaluators.items():
    evaluator(roles, source, features, pathlib.Path())  # it draws when iterated
    sweep = spec['evaluators'][name].get('sweep', {})
    for role, entries in sweep.items():
      for entry in entries:
        key = join(where, f'evaluators.{name}.sweep.{role}')
        with located(f'{key} has {entry}'):
          build.check_sampler(*entry)


def _check_start(
  stage: Stage, state: TrainState, load: Load, where: str
) -> None:
  if stage.init_from is not None:
    key = join(where, 'init_from')
    weights = _weights(stage.init_from, load(stage.init_from, key)[1], key)
    check_same_shapes(state.roles['student'].params, weights, key)
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
    model, state, data = load(origin, key)
    frozen[role] = model, _weights(origin, state, key)
    if data.shape != source.shape or data.num_classes > source.num_classes:
      raise ConfigError(
        f'config.{key} = {origin.source!r} knows {_describe(data)}, and this '
        f'data set has {_describe(source)}'
      )
  return frozen


def _describe(source: Source) -> str:
  return f'examples {list(source.shape)} of {source.num_classes} classes'


def _weights(origin: Origin, state: TrainState, where: str) -> Any:
  with _named(where):
    return origins.weights_of(state, origin)[1]


def _check_roles(
  stage: Stage,
  source: Source,
  state: TrainState,
  frozen: Mapping[str, tuple[Model, Any]],
  where: str,
) -> None:
  applies = {role: model.apply for role, (model, _) in frozen.items()}
  applies['student'] = build.build_model(stage, source).apply
  params = {role: weights for role, (_, weights) in frozen.items()}
  asked: set[str] = set()

  def loss(state, params, batch):
    student = state.roles['student'].params
    key = jax.random.key(0)
    nets = make_roles('student', student, state, params, applies, key)
    watched = Watched(nets, asked)
    return stage.objective(watched, batch, key, state.step)

  try:
    jax.eval_shape(loss, state, params, batch_shapes(stage, source))
  except MissingRole as error:
    raise ConfigError(f'config.{join(where, "objective")}: {error}') from error
  for role in stage.frozen:
    if role not in asked:
      raise ConfigError(
        f'config.{join(where, "frozen")}.{role} has no effect: the objective '
        f'asks only for {sorted(asked)}'
      )


class Watched(Roles):
  """Roles that note which of them were asked for."""

  def __init__(self, nets: Roles, asked: set[str]):
    super().__init__(nets)
    object.__setattr__(self, '_asked', asked)

  def __getattr__(self, role: str) -> Any:
    found = super().__getattr__(role)
    self.__dict__['_asked'].add(role)
    return found


def batch_shapes(stage: Stage, source: Source) -> dict[str, Any]:
  """A batch by shapes alone."""
  size = stage.train.batch_size
  label = jax.ShapeDtypeStruct((size,), jnp.int32)
  cond = {'label': label} if source.num_classes else {}
  x0 = jax.ShapeDtypeStruct((size, *source.shape), jnp.float32)
  return {'x0': x0, 'cond': cond, 'null': cond}
