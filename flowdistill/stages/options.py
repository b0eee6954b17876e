"""Options of jobs, `--NAME=VALUE`: read, and checked before any device."""

import keyword
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from flowdistill.build import objects as build
from flowdistill.build.check_sampling import check_sampling
from flowdistill.config.bind import ConfigError, Spec, suggest
from flowdistill.config.files import TRAIN, trained
from flowdistill.config.sampling import Sampling
from flowdistill.config.sections import Stage
from flowdistill.config.typed import read
from flowdistill.jobs import JOBS, pairs
from flowdistill.stages import references as lineage


def parse_options(job: str, given: Sequence[tuple[str, str | None]]) -> Any:
  """(NAME, VALUE) pairs as the options of a job.

  Raises:
    ConfigError: if the job has no such option, or the value is of another type.
  """
  kind, types = JOBS[job].Options, types_of(job)
  values: dict[str, Any] = {}
  for name, text in given:
    if name not in types:
      raise ConfigError(f'--{name}: {_why_unknown(name, job)}')
    if text is None:
      raise ConfigError(f'--{name} has no value: it is --{name}=VALUE')
    try:
      values[field_of(name)] = read(text, types[name])
    except ValueError as error:
      raise ConfigError(f'--{name}={text}: {error}') from error
  return kind(**values)


def types_of(job: str) -> dict[str, Any]:
  """Option of a job -> its type."""
  hints = typing.get_type_hints(JOBS[job].Options)
  return {name.removesuffix('_'): kind for name, kind in hints.items()}


def field_of(option: str) -> str:
  """'from' -> 'from_', which Python can have as a name."""
  return f'{option}_' if keyword.iskeyword(option) else option


def _why_unknown(name: str, job: str) -> str:
  known = {j: list(types_of(j)) for j in JOBS}
  if '.' in name:
    return f'a key of the config is set as --config.{name}=VALUE'
  others = [f'--job={j}' for j in JOBS if name in known[j]]
  if others:
    return f'it is an option of {" and ".join(others)}, not of --job={job}'
  choices = ['config', 'workdir', 'job', *known[job]]
  return f'--job={job} has no such option; {suggest(name, choices)}'


def check_options(options: Any, stages: Mapping[str, Spec]) -> None:
  """Checks those that say what to draw from which stage, where a job has them.

  Raises:
    ConfigError: if there is no such stage, role, sampler, number of network
      calls, average of the weights or class.
  """
  given = vars(options)
  if 'stage' not in given:
    return
  makes = isinstance(options, pairs.Options)
  learning = list(trained(stages)) or list(stages)
  last = pairs.default_stage(stages) if makes else learning[-1]
  name = given['stage'] or last
  _check_choice('stage', name, stages)
  if stages[name]['job'] != TRAIN:
    return
  stage = build.bind_stage(stages[name])
  if isinstance(options, Sampling):
    _check_sampling(given['model'], options, stage, stages)
  if 'weights' in given:
    weights = ['ema', 'params', *stage.ema]
    _check_choice('weights', given['weights'], weights)
  if given.get('samples', 1) < 1:
    raise ConfigError(f'--samples={given["samples"]}: it must be at least 1')
  _check_label(given.get('label', -1), stage)


def _check_sampling(
  role: str, options: Sampling, stage: Stage, stages: Mapping[str, Spec]
) -> None:
  typed = _typed(options)
  if role:
    _check_choice('model', role, ['student', *stage.flows])
  elif typed != _typed(Sampling()):
    raise ConfigError(
      f'{typed} has no effect without --model, such as --model=student'
    )
  for name in vars(Sampling()):
    if name in options.options:
      raise ConfigError(f'--options has {name!r}: that is said by --{name}')
  source = stage.dataset()
  model = build.build_model(stage, source)
  if role in stage.flows:
    model, _, _ = lineage.origin_state(
      stage.flows[role],
      f'frozen.{role}',
      stages=stages,
      workdir=pathlib.Path(),  # of a stage that is not in `stages`: none is
    )
  try:
    check_sampling(model, source, options.sampler, options.nfe, options.how())
  except ValueError as error:
    raise ConfigError(f'{typed}: {error}') from error


def _typed(options: Sampling) -> str:
  """'--sampler=heun --nfe=5', and what else is set."""
  default = vars(Sampling())
  chosen = {
    name: getattr(options, name)
    for name in default
    if name in ('sampler', 'nfe') or getattr(options, name) != default[name]
  }
  return ' '.join(f'--{name}={_spell(v)}' for name, v in chosen.items())


def _spell(value: Any) -> str:
  if not isinstance(value, Mapping):
    return str(value).lower() if value is None else str(value)
  return ', '.join(f'{name}={v}' for name, v in value.items())


def _check_choice(option: str, value: str, choices: Any) -> None:
  if value not in choices:
    raise ConfigError(
      f'--{option}={value} does not exist; {suggest(value, choices)}'
    )


def _check_label(label: int, stage: Stage) -> None:
  if label < 0:
    return
  classes = stage.dataset().num_classes
  if not classes:
    raise ConfigError(f'--label={label}: this data set has no classes')
  if label > classes:
    raise ConfigError(
      f'--label={label}: classes are 0 to {classes - 1}, and {classes} is '
      '"no class"'
    )
