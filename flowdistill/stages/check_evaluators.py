"""Checks the evaluators of a stage, and what they compare samples with."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.data import Data
from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.config.bind import ConfigError, located
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.measuring import in_place_of_data

# Keys in which a data set and its held-out part differ.
HELD_OUT = ('split', 'validation', 'held_out', 'examples')
DATASET = 'evaluation.dataset'
SWEEPS = ('sweep', 'reference')  # options of evaluators that list samplers


def check_evaluators(blueprint: Blueprint) -> None:
  """Checks evaluators, their features, and what they are compared with.

  Raises:
    ConfigError: naming the key that is wrong.
  """
  stage = blueprint.stage
  if not stage.evaluators:
    return
  check_measured(blueprint, blueprint.measured)
  if blueprint.validation is not None:
    check_measured(blueprint, blueprint.validation, 'evaluation.validation')
  roles: Any = dict.fromkeys(blueprint.drawable)
  gauge = None if stage.evaluation.features is None else Unplaced(blueprint)
  for name, evaluator in stage.evaluators.items():
    # It checks its arguments when called, and samples only when iterated.
    evaluator(roles, blueprint.measured, gauge, pathlib.Path())
    for option in SWEEPS:
      sweep = blueprint.spec['evaluators'][name].get(option, {})
      for role, entries in sweep.items():
        key = blueprint.key(f'evaluators.{name}.{option}.{role}')
        for sampler, nfe, *rest in entries:
          with located(f'{key} has {[sampler, nfe, *rest]}'):
            check_entry(blueprint, role, sampler, nfe, dict(*rest))


class Unplaced:
  """The feature networks of a stage, for checks; on no device.

  They are read, and checked against its examples, if an evaluator asks for
  them.
  """

  def __init__(self, blueprint: Blueprint):
    self.blueprint = blueprint
    self.validation = blueprint.validation

  @functools.cached_property
  def networks(self) -> Any:
    """Of `evaluation.features`."""
    features = self.blueprint.stage.evaluation.features
    with located(self.blueprint.key('evaluation.features')):
      return checked_features(features, self.blueprint.measured.spec)

  @functools.cached_property
  def _in_place(self) -> dict[str, Any]:
    return in_place_of_data(self.blueprint, self.networks)

  @property
  def examples(self) -> Any:
    """Images of `evaluation.reference`, or None."""
    return self._in_place.get('examples')

  @property
  def reference(self) -> Any:
    """Statistics of `evaluation.reference`, or None."""
    return self._in_place.get('reference')


def checked_features(features: Any, spec: DataSpec) -> Any:
  """The feature networks; ValueError if one cannot take these examples."""
  loaded = features()
  try:
    loaded.check(spec.shape)
  except ValueError as error:
    raise ValueError(
      f'{error}: these examples are {spec}; set evaluation.features = none, '
      'and evaluators that need no features'
    ) from error
  return loaded.networks


def check_entry(
  blueprint: Blueprint,
  role: str,
  sampler: str,
  nfe: int | None,
  options: Mapping[str, Any],
) -> None:
  """Raises ValueError if a role cannot be sampled so, see `plan_sampling`."""
  scalars = blueprint.roles[role].model.scalars
  plan_sampling(
    sampler,
    nfe,
    options,
    spec=blueprint.sees,
    scalars=scalars,
    answers=blueprint.answers(role),
    guides=lambda: blueprint.guides_of(role),
    data=f'the data set {blueprint.spec["dataset"]["name"]!r}',
  )


def check_measured(
  blueprint: Blueprint, real: Data, where: str = DATASET
) -> None:
  """The evaluators' examples must have an index and the stage's spec."""
  if real.record.stream:
    raise ConfigError(
      f'config.{blueprint.key(where)} must be a data set with '
      'an index: evaluators cannot measure against a stream'
    )
  spec, key = blueprint.images, blueprint.key(where)
  if (real.spec.shape, real.spec.cond) != (spec.shape, spec.cond):
    raise ConfigError(
      f'config.{key} must have examples as those of the stage, {spec}, and has '
      f'{real.spec}{_cure(blueprint, where)}'
    )
  names = real.spec.classes, spec.classes
  for mine, theirs in zip(*names, strict=False):  # one may have no names
    if mine != theirs:
      raise ConfigError(
        f'config.{key} must have the classes of config.dataset in their order, '
        f'and has {mine!r} in the place of {theirs!r}{_cure(blueprint, where)}'
      )


def _cure(blueprint: Blueprint, where: str) -> str:
  """What is to be set for the evaluation, too; '' if there is nothing."""
  section, _, name = where.partition('.')
  ours, theirs = blueprint.spec['dataset'], blueprint.spec[section][name]
  key = f'config.{blueprint.key(where)}'
  if ours['name'] != theirs['name']:
    return f'. It is another data set, {theirs["name"]!r}: set {key}, too'
  apart = [
    f'{key}.{name}={ours[name]}'
    for name in ours
    if name not in HELD_OUT and ours[name] != theirs[name]
  ]
  return f'. Set {" and ".join(apart)}, too' if apart else ''
