"""Finds what is wrong with a stage that trains, from shapes alone."""

import pathlib
from collections.abc import Mapping
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.data import Data
from flowdistill.build.foreign import read_weights
from flowdistill.build.pairs import open_pairs
from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.config.bind import ConfigError, located, suggest
from flowdistill.config.kinds import PAIRS
from flowdistill.config.sections import Reference
from flowdistill.flow.spec import DataSpec
from flowdistill.objectives.roles import MissingRole
from flowdistill.stages.blueprints import Blueprints, naming
from flowdistill.stages.tracing import trace
from flowdistill.training.checkpoint import by_name
from flowdistill.workdir.folders import STAGE, source_folder
from flowdistill.workdir.weights import matching

SWEEPS = ('sweep', 'reference')  # options of evaluators that hold samplers


def check_train(blueprints: Blueprints, name: str) -> None:
  """Shapes the networks of a stage, and traces its losses.

  Raises:
    ConfigError: for a value out of range, a role that is missing or has no
      effect, weights that do not fit, a condition that does not exist.
  """
  blueprint = blueprints[name]
  _check_lengths(blueprint)
  _check_effects(blueprint)
  for role in blueprint.learns:
    _check_start(blueprint, role)
  _check_resume(blueprint, blueprints)
  _check_pairs(blueprint, blueprints)
  for role in blueprint.stage.frozen:
    _check_frozen(blueprint, role)
  _check_roles(blueprint)
  _check_evaluators(blueprint)


def _check_lengths(blueprint: Blueprint) -> None:
  """Lengths in epochs need a data set whose length is known."""
  stage = blueprint.stage
  lengths = {
    'train': stage.train.length,
    'log': stage.log.every,
    'checkpoint.every': stage.checkpoint.every,
    'checkpoint.keep_every': stage.checkpoint.keep_every,
    'evaluation.every': stage.evaluation.every,
    **{
      f'evaluation.schedules.{name}': every
      for name, every in stage.evaluation.schedules.items()
    },
  }
  for key, length in lengths.items():
    with located(blueprint.key(key)):
      blueprint.to_steps(length)


def _check_effects(blueprint: Blueprint) -> None:
  stage, spec = blueprint.stage, blueprint.data.spec
  given, why = stage.evaluation, {}
  if not spec.cond and stage.train.drop_cond:
    why['train.drop_cond'] = 'this data set has no conditions to drop'
  if len(spec.shape) != 3 and stage.train.flip:
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
  scheduled = given.every is not None or given.schedules
  if stage.checkpoint.best and not scheduled:
    why['checkpoint.best'] = 'evaluation.every does not say when to measure'
  if stage.init_from is not None and stage.resume is not None:
    why['init_from'] = 'resume takes over a whole state'
  for key, reason in why.items():
    raise ConfigError(f'config.{blueprint.key(key)} has no effect: {reason}')


def _check_start(blueprint: Blueprint, role: str) -> None:
  """The weights that a role starts from fit its network."""
  if blueprint.stage.learners[role].init_from is None:
    return
  reference, key = blueprint.reference(role)
  if reference.dtype != Reference.dtype:
    raise ConfigError(f'config.{key}.dtype has an effect on frozen alone')
  given = blueprint.weights(role).params
  fresh = blueprint.learners[role].model.params
  if not reference.matching:
    check_same_shapes(fresh, given, key)
  elif not matching(fresh, given):
    raise ConfigError(
      f'config.{key}: no array there has the name and the shape of one of '
      "this stage's network"
    )


def _check_resume(blueprint: Blueprint, blueprints: Blueprints) -> None:
  folder, key = blueprint.stage.resume, blueprint.key('resume')
  if folder is None:
    return
  if folder.startswith(STAGE):
    raise ConfigError(
      f'config.{key} = {folder!r} must be the folder of a stage; to start '
      'from an earlier stage of this config, there is init_from'
    )
  other = blueprints.stage_of(folder, key, blueprint.name)
  check_same_shapes(blueprint.state, other.state, key)


def _check_frozen(blueprint: Blueprint, role: str) -> None:
  reference, key = blueprint.reference(role)
  if reference.matching:
    raise ConfigError(f'config.{key}.matching has an effect on init_from alone')
  weights = blueprint.weights(role)
  if weights.stage is not None:
    seen = weights.stage.sees
    check_knows(seen, blueprint.sees, f'{key} = {reference.source!r}')
    return
  if reference.weights != Reference.weights:
    raise ConfigError(
      f'config.{key}.weights = {reference.weights!r} has no effect: a file has '
      'one set of weights'
    )
  with naming(key):
    read_weights(role, reference.source)


def _check_pairs(blueprint: Blueprint, blueprints: Blueprints) -> None:
  """Refuses pairs of other examples than those of the data set."""
  source, key = blueprint.stage.pairs, blueprint.key('pairs')
  if source is None:
    return
  makers = {
    f'{STAGE}{name}': name
    for name, spec in blueprints.before(blueprint.name).items()
    if spec['job'] == PAIRS
  }
  if source not in makers and source.startswith(STAGE):
    raise ConfigError(
      f'config.{key} = {source!r} must be an earlier stage that makes pairs; '
      f'{suggest(source, makers)}'
    )
  with naming(key):
    spec = (
      blueprints[makers[source]].sees
      if source in makers
      else open_pairs(source_folder(source, blueprints.workdir)).spec
    )
  check_knows(spec, blueprint.sees, f'{key} = {source!r}')
  if missing := blueprint.sees.cond.keys() - spec.cond.keys():
    raise ConfigError(
      f'config.{key} = {source!r} has no {", ".join(sorted(missing))}, and '
      f'this data set has {blueprint.sees}'
    )


def _check_roles(blueprint: Blueprint) -> None:
  asked, pairs = set(), blueprint.stage.pairs
  reads: set[str] = set()
  for role in blueprint.learns:
    number = blueprint.learns.index(role)
    at = f'roles.{role}.' if number else ''
    try:
      traced = trace(blueprint, role)
    except MissingRole as error:
      key = blueprint.key(f'{at}objective')
      raise ConfigError(f'config.{key}: {error}') from error
    asked |= traced.roles
    reads |= traced.read
    _check_added(blueprint, role, traced.added, at)
  if pairs is not None and 'x1' not in reads:
    raise ConfigError(
      f'config.{blueprint.key("pairs")} has no effect: the objective draws '
      "noise of its own; there are the couplings 'paired' and 'annealed'"
    )
  for role in blueprint.stage.frozen:
    if role not in asked:
      raise ConfigError(
        f'config.{blueprint.key("frozen")}.{role} has no effect: the objective '
        f'asks only for {sorted(asked)}'
      )


def _check_added(
  blueprint: Blueprint, role: str, added: set[str], at: str
) -> None:
  """Refuses to draw a condition that the network that learns does not take."""
  unknown = added - set(blueprint.learners[role].model.scalars)
  spec = blueprint.spec['roles'][role] if at else blueprint.spec
  law = spec['objective'].get('guidance')
  if isinstance(law, Mapping) and law['name'] == 'fixed':
    unknown -= {'guidance'}  # it is the same for all examples
  if unknown:
    raise ConfigError(
      f'config.{blueprint.key(at + "network")}.scalars must be '
      f'{sorted(added)}: the objective draws {sorted(unknown)} for every '
      'example, and this network does not take it'
    )


def _check_evaluators(blueprint: Blueprint) -> None:
  stage, real = blueprint.stage, blueprint.measured
  if not stage.evaluators:
    return
  check_measured(blueprint, real)
  roles: Any = dict.fromkeys(blueprint.drawable)
  for name, evaluator in stage.evaluators.items():
    # It draws when it is iterated.
    evaluator(roles, real, stage.evaluation.features, pathlib.Path())
    for option in SWEEPS:
      sweep = blueprint.spec['evaluators'][name].get(option, {})
      for role, entries in sweep.items():
        key = blueprint.key(f'evaluators.{name}.{option}.{role}')
        for sampler, nfe, *rest in entries:
          with located(f'{key} has {[sampler, nfe, *rest]}'):
            check_entry(blueprint, role, sampler, nfe, dict(*rest))


def check_entry(
  blueprint: Blueprint,
  role: str,
  sampler: str,
  nfe: int | None,
  options: Mapping[str, Any],
) -> None:
  """Checks that a role of a stage can be sampled in this way."""
  scalars = blueprint.roles[role].model.scalars
  plan_sampling(sampler, nfe, options, spec=blueprint.sees, scalars=scalars)


def check_measured(blueprint: Blueprint, real: Data) -> None:
  """The evaluators' examples have an index, and are like the stage's."""
  if real.record.stream:
    raise ConfigError(
      f'config.{blueprint.key("evaluation.dataset")} must be a data set with '
      'an index: evaluators cannot measure against a stream'
    )
  if (real.spec.shape, real.spec.cond) != (
    blueprint.data.spec.shape,
    blueprint.data.spec.cond,
  ):
    key = blueprint.key('evaluation.dataset')
    raise ConfigError(
      f'config.{key} has examples {real.spec}, and the stage has examples '
      f'{blueprint.data.spec}'
    )


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
  return {name: list(array.shape) for name, array in by_name(tree).items()}


def check_knows(given: DataSpec, wanted: DataSpec, where: str) -> None:
  """Refuses what knows other examples than a stage, or more classes."""
  fits = given.shape == wanted.shape and not given.num_classes > (
    wanted.num_classes
  )
  others = [n for n in given.cond if n not in wanted.cond]
  if not fits or (others and others != ['label']):
    raise ConfigError(
      f'config.{where} knows examples {given}, and this data set has examples '
      f'{wanted}'
    )
