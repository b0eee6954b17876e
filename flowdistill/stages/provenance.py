"""What a figure depends on beside its sampler: columns of the rows of a run."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.ema_snapshots import resolved
from flowdistill.config.bind import Spec
from flowdistill.evaluators.signature import Row
from flowdistill.stages.assembly import Assembly
from flowdistill.training.state import MAIN
from flowdistill.workdir import folders, record
from flowdistill.workdir.environment import environment

LOSSES = {'lpips': 'vgg16'}
"""A term of a loss -> the feature network that it is of."""


def of_run(assembly: Assembly) -> Row:
  """The dtype of the networks, and the revision of this code."""
  spec = assembly.blueprint.spec
  dtypes = {role['network'].get('dtype', 'float32') for role in _roles(spec)}
  return {'dtype': ' and '.join(sorted(dtypes)), 'code': revision()}


@functools.cache
def revision() -> str:
  """'0.1.0', with the commit in a checkout, and + if that was changed."""
  found = environment()
  version, git = found['packages']['flowdistill'], found['git']
  if git is None:
    return f'{version}'
  return f'{version} {git["revision"][:12]}{"+" * git["dirty"]}'


def of_row(assembly: Assembly, row: Row, which: str) -> Row:
  """What a row says of its features and of the EMA of its weights."""
  return {**of_network(assembly, row), **of_ema(assembly, row, which)}


def of_ema(assembly: Assembly, row: Row, which: str) -> Row:
  """{'ema': 'half_life(half_life=steps=200)'} where the weights are an EMA."""
  spec = _ema(assembly.blueprint, row['model'], which)
  return {} if spec is None else {'ema': _flat(spec)}


def _ema(blueprint: Blueprint, role: str, which: str) -> Spec | None:
  """The EMA of a role's weights, of the stage that trained it."""
  if role in blueprint.learners:
    emas = blueprint.learner_spec(role).get('ema', {})
    found = resolved(blueprint, role, MAIN if which == 'ema' else which)
    if isinstance(found, str):
      return emas.get(found)
    every = blueprint.spec['ema_snapshots']['every']
    return {'name': 'power', 'sigma_rel': found, 'snapshots': every}
  weights = blueprint.weights(role)
  if weights.stage is None:
    return None
  reference = weights.reference
  return _ema(weights.stage, reference.role, reference.weights)


def _flat(spec: Spec) -> str:
  """'half_life(half_life=steps=200, ramp=0.05)', without what is None."""
  options = ', '.join(
    f'{key}={_flat(value) if isinstance(value, Mapping) else value}'
    for key, value in spec.items()
    if key != 'name' and value is not None
  )
  return f'{spec["name"]}({options})' if 'name' in spec else options


def of_network(assembly: Assembly, row: Row) -> Row:
  """{'trained_on': 'vgg16 (lpips)'} where the features of a row were that.

  A network that learnt to be near the data in some features has better figures
  in these than what people see.
  """
  names = f'{row.get("features", "")}'.split(', ')
  terms = sorted(
    {
      f'{LOSSES[term]} ({term})'
      for spec in _specs(assembly)
      for term in _terms(spec)
      if LOSSES[term] in names
    }
  )
  return {'trained_on': ', '.join(terms)} if terms else {}


def _specs(assembly: Assembly) -> Iterator[Spec]:
  """The configs of all stages that a network may come from."""
  workdir = assembly.workdir
  if (workdir / folders.CONFIG).is_file():
    for name in folders.stage_names(workdir):
      yield record.load_spec(folders.stage_folder(workdir, name))
  yield from _ancestors(assembly.blueprint)


def _ancestors(blueprint: Blueprint) -> Iterator[Spec]:
  yield blueprint.spec
  starts = [n for n, r in blueprint.learners.items() if r.weights is not None]
  for name in [*starts, *blueprint.stage.frozen]:
    if (stage := blueprint.weights(name).stage) is not None:
      yield from _ancestors(stage)


def _roles(spec: Spec) -> list[Spec]:
  return [spec, *spec.get('roles', {}).values()]


def _terms(spec: Spec) -> Iterator[str]:
  """The terms of the losses of a stage that are of a feature network."""
  for role in _roles(spec):
    yield from (t for t in _texts(role.get('objective')) if t in LOSSES)


def _texts(value: Any) -> Iterator[str]:
  """All texts in plain data."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, Mapping):
    for each in value.values():
      yield from _texts(each)
  elif isinstance(value, list | tuple):
    for each in value:
      yield from _texts(each)
