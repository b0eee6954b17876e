"""Checks a stage that trains, abstractly (jax.eval_shape)."""

import functools
from collections.abc import Mapping

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.ema_snapshots import profiles_of
from flowdistill.build.foreign import FILES, read_weights
from flowdistill.build.pairs import open_pairs
from flowdistill.build.sampling_plan import check_grid
from flowdistill.build.weights import check_idle
from flowdistill.config.bind import ConfigError, located, suggest
from flowdistill.config.kinds import PAIRS
from flowdistill.config.run_sections import EmaSnapshots
from flowdistill.config.stages import FEATURES, MEASURING
from flowdistill.objectives.roles import MissingRole
from flowdistill.stages.blueprints import Blueprints, naming
from flowdistill.stages.check_buckets import check_buckets
from flowdistill.stages.check_data_free import check_data_free
from flowdistill.stages.check_evaluators import check_evaluators
from flowdistill.stages.check_fit import check_knows, check_same_shapes
from flowdistill.stages.check_objectives import check_objectives
from flowdistill.stages.check_start import check_only, check_start
from flowdistill.stages.effects import without_effect
from flowdistill.stages.space import check_recorded_space, check_space
from flowdistill.stages.tracing import Trace, trace
from flowdistill.workdir.folders import STAGE, source_folder


def check_train(blueprints: Blueprints, name: str) -> None:
  """Checks the keys of a stage against each other, and traces its losses.

  Raises:
    ConfigError: for a value out of range, a role that is missing or has no
      effect, weights that do not fit, or an unknown condition.
  """
  blueprint = blueprints[name]
  check_space(blueprint)
  check_recorded_space(blueprint)
  _check_lengths(blueprint)
  _check_effects(blueprint)
  for role in blueprint.learns:
    check_start(blueprint, role)
    check_only(blueprint, role)
  _check_resume(blueprint, blueprints)
  _check_pairs(blueprint, blueprints)
  for role in blueprint.stage.frozen:
    _check_frozen(blueprint, role)
  check_objectives(blueprint)
  check_buckets(blueprint)
  _check_roles(blueprint, blueprints)
  check_evaluators(blueprint)


def _check_lengths(blueprint: Blueprint) -> None:
  """Lengths in epochs need a data set of known length."""
  stage = blueprint.stage
  lengths = {
    'train': stage.train.length,
    'log': stage.log.every,
    'checkpoint.every': stage.checkpoint.every,
    'checkpoint.keep_every': stage.checkpoint.keep_every,
    'ema_snapshots.every': stage.ema_snapshots.every,
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
  """Refuses keys that have no effect."""
  stage = blueprint.stage
  section = stage.evaluation
  why = {f'train.{k}': v for k, v in without_effect(blueprint).items()}
  why |= _idle_snapshots(blueprint)
  if section.grid is not None:
    with located(blueprint.key('evaluation'), ('grid',)):
      check_grid(section.grid)
  for key in MEASURING:
    if not stage.evaluators and getattr(section, key) is not None:
      why[f'evaluation.{key}'] = 'there are no evaluators'
  for key in FEATURES:
    if section.features is None and getattr(section, key) is not None:
      why[f'evaluation.{key}'] = 'there is no evaluation.features'
  for name in section.schedules.keys() - stage.evaluators.keys():
    why[f'evaluation.schedules.{name}'] = (
      f'there is no such evaluator; {suggest(name, stage.evaluators)}'
    )
  scheduled = section.every is not None or section.schedules
  if stage.checkpoint.best and not scheduled:
    why['checkpoint.best'] = 'no evaluator runs while training'
  starts = stage.init_from is not None and stage.lora is None
  if starts and stage.resume is not None:
    why['init_from'] = 'resume restores a whole state'
  for key, reason in why.items():
    raise ConfigError(f'config.{blueprint.key(key)} has no effect: {reason}')


def _idle_snapshots(blueprint: Blueprint) -> dict[str, str]:
  """Key -> why it has no effect, of the section `ema_snapshots`."""
  section = blueprint.stage.ema_snapshots
  every = blueprint.to_steps(section.every)
  if not every:
    other = section != EmaSnapshots()
    why = 'no snapshots are kept, as ema_snapshots.every = None'
    return {'ema_snapshots.dtype': why} if other else {}
  if not profiles_of(blueprint):
    why = "there is no EMA of kind power, such as ema.main={'sigma_rel': 0.05}"
  elif every > blueprint.total:
    why = f'{section.every} are more than the {blueprint.total} of the stage'
  else:
    return {}
  return {'ema_snapshots.every': why}


def _check_resume(blueprint: Blueprint, blueprints: Blueprints) -> None:
  folder, key = blueprint.stage.resume, blueprint.key('resume')
  if folder is None:
    return
  if folder.startswith(STAGE):
    raise ConfigError(
      f'config.{key} = {folder!r} must be the folder of a stage; use init_from '
      'to start from an earlier stage of this config'
    )
  other = blueprints.stage_of(folder, key, blueprint.name)
  check_same_shapes(blueprint.state, other.state, key)


def _check_frozen(blueprint: Blueprint, role: str) -> None:
  reference, key = blueprint.reference(role)
  if reference.matching:
    raise ConfigError(
      f'config.{key}.matching has no effect outside of init_from'
    )
  weights = blueprint.weights(role)
  if weights.stage is not None:
    where = f'{key} = {reference.source!r}'
    check_knows(weights.stage.sees, blueprint.sees, where)
    return
  if weights.published is not None:
    return
  check_idle(reference, key, ['weights'], ': a file has one set of weights')
  why = ' on a network that is read from a file'
  check_idle(reference, key, ('attention_form', 'offload'), why)
  with naming(key):
    read_weights(role, reference.source)
  space = blueprint.spec['space']['name']
  if FILES[role].shipped and space != reference.source:
    raise ConfigError(
      f'config.{key} = {reference.source!r} must be {role} of the latents of '
      f'config.{blueprint.key("space")}, {space!r}'
    )


def _check_pairs(blueprint: Blueprint, blueprints: Blueprints) -> None:
  """The pairs must be of the spec of the data set."""
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


def _check_roles(blueprint: Blueprint, blueprints: Blueprints) -> None:
  """Traces the objectives: each role must exist, and have an effect."""
  traces = {r: _traced(blueprint, blueprints, r) for r in blueprint.learns}
  for role, traced in traces.items():
    _check_added(blueprint, role, traced.added)
  check_data_free(blueprint, {role: t.read for role, t in traces.items()})
  if blueprint.stage.pairs is not None and not any(
    'x1' in traced.read for traced in traces.values()
  ):
    raise ConfigError(
      f'config.{blueprint.key("pairs")} has no effect: the objective draws its '
      "own noise; use the coupling 'paired' or 'annealed'"
    )
  for role in blueprint.learns:
    others = (t.roles for name, t in traces.items() if name != role)
    drawable = blueprint.learners[role].is_drawable
    if not drawable and role not in set().union(*others):
      raise ConfigError(
        f'config.{blueprint.key(f"roles.{role}")} has no effect: no other '
        f'objective calls nets.{role}, and it cannot be sampled'
      )
  called = set().union(*(traced.roles for traced in traces.values()))
  for role in blueprint.stage.frozen:
    if role not in called:
      raise ConfigError(
        f'config.{blueprint.key("frozen")}.{role} has no effect: the objective '
        f'calls only {sorted(called)}'
      )


def _traced(blueprint: Blueprint, blueprints: Blueprints, role: str) -> Trace:
  """What the objective of a role calls; it must call what it trains."""
  key = blueprint.learner_key(role, 'objective')
  try:
    traced = blueprints.once(
      ('trace', role, blueprint.likeness),
      functools.partial(trace, blueprint, role),
    )
  except MissingRole as error:
    raise ConfigError(f'config.{key}: {error}') from error
  if role not in traced.roles:
    raise ConfigError(
      f'config.{key} does not train the {role}: it calls only '
      f'{sorted(traced.roles)}'
    )
  return traced


def _check_added(blueprint: Blueprint, role: str, added: set[str]) -> None:
  """Refuses drawn conditions that the network that learns does not take."""
  unknown = added - set(blueprint.learners[role].model.scalars)
  objective = blueprint.learner_spec(role)['objective']
  law = objective.get('base', objective).get('guidance')
  if isinstance(law, Mapping) and law['name'] == 'fixed':
    unknown -= {'guidance'}  # it is the same for all examples
  if unknown:
    raise ConfigError(
      f'config.{blueprint.learner_key(role, "network")}.scalars must be '
      f'{sorted(added)}: the objective draws {sorted(unknown)} for every '
      'example, and this network does not take it'
    )
