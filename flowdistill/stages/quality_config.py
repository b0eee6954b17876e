"""The evaluator `quality` in a config, as options of jobs ask for it."""

from collections.abc import Sequence
from typing import Any

from flowdistill.build.tables import resolve_stage
from flowdistill.config.bind import ConfigError, Spec

FRECHET = 'frechet'  # the metric if none is named
DRAWS = 'pictures'  # evaluators that stay
Specs = Sequence[Any]
"""Names, or dicts of a name and options."""


def with_quality(
  spec: Spec,
  features: Specs,
  metrics: Specs,
  *,
  samples: int,
  sets: int,
  real: int,
  seed: int = 0,
  pictures: bool = True,
) -> Spec:
  """The config of a stage with `quality` in place of what measures there.

  Args:
    spec: the resolved config of a stage.
    features: feature networks; none keeps those of the config.
    metrics: in METRICS; none is the Fréchet distance.
    samples: of a set.
    sets: number of sets.
    real: number of real examples at most.
    seed: of the noise.
    pictures: whether the evaluators that draw pictures stay.

  Raises:
    ConfigError: for a name or an option that does not exist.
  """
  evaluation = spec['evaluation']
  if features:
    evaluation = {**evaluation, 'features': one_spec(features)}
  quality = {
    'name': 'quality',
    'metrics': named_specs(metrics or (FRECHET,)),
    'samples': samples,
    'sets': sets,
    'real': real,
    'seed': seed,
  }
  drawing = {n: e for n, e in spec['evaluators'].items() if e['name'] == DRAWS}
  evaluators = {'quality': quality, **(drawing if pictures else {})}
  try:
    return resolve_stage(
      {**spec, 'evaluation': evaluation, 'evaluators': evaluators}
    )
  except ConfigError as error:
    raise ConfigError(f'--metrics or --features: {error}') from error


def named_specs(specs: Specs) -> dict[str, Any]:
  """'frechet', {'name': 'kernel', ...} -> name -> spec.

  Raises:
    ConfigError: for one without a name, or a name that is there twice.
  """
  found: dict[str, Any] = {}
  for each in specs:
    spec = {'name': each} if isinstance(each, str) else dict(each or {})
    if 'name' not in spec:
      raise ConfigError(
        f"{each!r} must have a name, like 'name=kernel, size=100'"
      )
    if (name := f'{spec["name"]}') in found:
      raise ConfigError(f'{name!r} must be named once')
    found[name] = spec
  return found


def one_spec(specs: Specs) -> Spec:
  """The spec of one feature network, or that of several."""
  named = named_specs(specs)
  several = {'name': 'several', 'of': named}
  return several if len(named) > 1 else next(iter(named.values()))
