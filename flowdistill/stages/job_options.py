"""Parses options of jobs, `--NAME=VALUE`, and checks them before any work."""

import dataclasses
import functools
import keyword
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.ema_snapshots import check_reconstruction, resolved
from flowdistill.build.given import check_conditions, check_label
from flowdistill.build.prompts import encode_prompts
from flowdistill.build.sampling_plan import combinations, plan_sampling
from flowdistill.build.tuning import ways
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.kinds import TRAIN
from flowdistill.config.sampling import Sampling, Samplings
from flowdistill.config.sections import STUDENT
from flowdistill.config.typed import parse
from flowdistill.flow.noise import check_range, check_seed
from flowdistill.flow.spec import LABEL
from flowdistill.stages.blueprints import Blueprints
from flowdistill.workdir.folders import given_path
from flowdistill.workdir.presets import preset_of

Chosen = TypeVar('Chosen', bound=Sampling)
NO_LABEL = -1  # all classes in turn
Jobs = Mapping[str, Any]
"""Name of a job -> its module, which has `Options`."""


def parse_options(
  jobs: Jobs, job: str, given: Sequence[tuple[str, str | None]]
) -> Any:
  """Parses (NAME, VALUE) pairs as the options of a job."""
  kind, types = jobs[job].Options, types_of(jobs[job])
  values: dict[str, Any] = {}
  for name, text in given:
    if name not in types:
      raise ConfigError(f'--{name}: {_why_unknown(name, jobs, job)}')
    if text is None and types[name] is bool:
      text = 'true'
    if text is None:
      raise ConfigError(f'--{name} must have a value: --{name}=VALUE')
    try:
      values[field_of(name)] = parse(text, types[name])
    except ValueError as error:
      raise ConfigError(f'--{name}={text} {error}') from error
  if {'ema', 'weights'} <= values.keys():
    raise ConfigError(
      '--ema must not be given with --weights: --ema=0.1 is short for '
      '--weights=power:0.1'
    )
  return kind(**values)


def path_of(option: str, text: str) -> pathlib.Path:
  """The path that an option of a job gives.

  Raises:
    ConfigError: if it begins with a home folder that is unknown.
  """
  return given_path(text, f'--{option}={text}')


def types_of(job: Any) -> dict[str, Any]:
  """Option of a job -> its type."""
  hints = typing.get_type_hints(job.Options)
  return {name.removesuffix('_'): kind for name, kind in hints.items()}


def field_of(option: str) -> str:
  """'from' -> 'from_': a field cannot be called like a Python keyword."""
  return f'{option}_' if keyword.iskeyword(option) else option


def _why_unknown(name: str, jobs: Jobs, job: str) -> str:
  known = {j: list(types_of(module)) for j, module in jobs.items()}
  if '.' in name:
    return f'a key of the config must be set by --config.{name}=VALUE'
  others = [f'--job={j}' for j in jobs if name in known[j]]
  if others:
    return f'it is an option of {" and ".join(others)}, not of --job={job}'
  choices = ['config', 'workdir', 'job', *known[job]]
  return f'--job={job} has no such option; {suggest(name, choices)}'


def check_options(options: Any, blueprints: Blueprints, last: str) -> None:
  """Checks the options of a job that select a stage, and sample from it.

  The default stage is `last`.

  Raises:
    ConfigError: for an unknown name, or an impossible number of network calls.
  """
  given = vars(options)
  if 'stage' not in given:
    return
  name = given['stage'] or last
  _check_choice('stage', name, blueprints)
  if blueprints.specs[name]['job'] != TRAIN:
    return
  blueprint = blueprints[name]
  if isinstance(options, Sampling):
    options = chosen_sampling(options, blueprint)
    _check_sampling(given['model'], options, blueprint)
  if isinstance(options, Samplings):
    for role in given['model'] or ('',):
      for each in tried(blueprint, role, options):
        _check_sampling(role, each, blueprint)
  weights = given.get('weights', ())
  for each in [weights] if isinstance(weights, str) else weights:
    _check_weights(each, given, blueprint)
  _check_drawn(given, blueprint)
  if cond := getattr(options, 'given', {}):
    check_given(cond, given, blueprint)
  if prompts := getattr(options, 'lines', []):
    check_prompts(prompts, cond, blueprint)


def tried(
  blueprint: Blueprint, role: str, options: Samplings
) -> list[Sampling]:
  """The combinations of the options, or of the knobs `tune`, for a role."""
  knobs = getattr(options, 'tune', ())
  if not knobs:
    return combinations(options)
  _check_choice('model', role, blueprint.drawable)
  try:
    return ways(options, knobs, lambda way: _plan(role, way, blueprint))
  except ConfigError:
    raise
  except ValueError as error:
    raise ConfigError(f'--tune={",".join(knobs)}: {error}') from error


def _check_weights(
  name: str, given: Mapping[str, Any], blueprint: Blueprint
) -> None:
  """Checks that the roles that a job reads have weights of a name."""
  model = given.get('model', STUDENT)
  models = [model] if isinstance(model, str) else blueprint.drawable
  option = f'weights={name}'
  if given.get('ema'):
    option = option.replace('weights=power:', 'ema=')
  for role in [n for n in models if n in blueprint.learners] or [STUDENT]:
    try:
      found = resolved(blueprint, role, name)
    except ValueError as error:
      raise ConfigError(f'--{option}: {error}') from error
    if isinstance(found, str):
      choices = ['ema', 'params', *blueprint.stage.learners[role].ema]
      _check_choice('weights', found, choices)
    else:
      check_reconstruction(blueprint, role, found, f'--{option}')


def _check_drawn(given: Mapping[str, Any], blueprint: Blueprint) -> None:
  """Checks which examples are drawn, where a job draws any."""
  try:
    check_seed(given.get('seed', 0))
    check_range(0, given.get('samples', 1))
    if (label := given.get('label', NO_LABEL)) != NO_LABEL:
      check_label(blueprint.sees, label)
  except ValueError as error:
    text = str(error).replace('n = ', 'samples = ', 1)
    raise ConfigError(f'--{text.replace(" = ", "=", 1)}') from error


def chosen_sampling(options: Chosen, blueprint: Blueprint) -> Chosen:
  """The options of sampling, or the preset of the NFE `preset`.

  Raises:
    ConfigError: if there is no such preset, or it is not alone.
  """
  given = vars(options)
  if not (nfe := given.get('preset', 0)):
    return options
  names = vars(Sampling())
  if {n: given[n] for n in names} != names:
    raise ConfigError(
      f'--preset={nfe} must be without {", ".join(f"--{n}" for n in names)}: a '
      'preset has them'
    )
  preset = preset_of(blueprint.folder, given['model'], nfe)
  if given['model'] in blueprint.learners:
    preset.check(given['weights'])
  return dataclasses.replace(options, **vars(preset.sampling))


def check_given(
  cond: Mapping[str, Any], given: Mapping[str, Any], blueprint: Blueprint
) -> None:
  """Checks the conditions that a job has read from the file `--cond`."""
  if LABEL in cond and given['label'] != NO_LABEL:
    raise ConfigError(f'--label={given["label"]} has no effect: --cond has one')
  try:
    check_conditions(blueprint.sees, given['samples'], cond)
  except ValueError as error:
    raise ConfigError(f'--cond={given["cond"]}: {error}') from error


def check_prompts(
  prompts: Sequence[str], cond: Mapping[str, Any], blueprint: Blueprint
) -> None:
  """Checks the prompts that a job has read, beside what `--cond` gives."""
  try:
    said = encode_prompts(blueprint.sees, prompts)
  except ValueError as error:
    raise ConfigError(f'--prompts: {error}') from error
  if both := sorted(said.keys() & cond.keys()):
    raise ConfigError(f'--prompts give {both}, which --cond gives, too')


def _check_sampling(role: str, options: Sampling, blueprint: Blueprint) -> None:
  typed = _typed(options)
  if role:
    _check_choice('model', role, blueprint.drawable)
  elif typed != _typed(Sampling()):
    raise ConfigError(
      f'{typed} has no effect without --model, such as --model=student'
    )
  for name in vars(Sampling()):
    if name in options.options:
      raise ConfigError(f'--options has {name!r}: set it by --{name}')
  if not role:
    return
  if getattr(options, 'direction', '') == 'random':
    _check_unused(options)
    return
  try:
    _plan(role, options, blueprint)
  except ValueError as error:
    raise ConfigError(f'{typed}: {error}') from error


def _check_unused(options: Sampling) -> None:
  """Refuses options of a flow, of which pairs at random have none."""
  default = vars(type(options)())
  for name in (*vars(Sampling()), 'model', 'weights'):
    if (value := getattr(options, name)) != default[name]:
      raise ConfigError(
        f'--{name}={_spell(value)} has no effect with --direction=random: no '
        'flow connects these pairs'
      )


def _plan(role: str, options: Sampling, blueprint: Blueprint) -> Any:
  return plan_sampling(
    options.sampler,
    options.nfe,
    options.how(),
    spec=blueprint.sees,
    scalars=blueprint.roles[role].model.scalars,
    answers=blueprint.answers(role),
    guides=functools.partial(blueprint.guides_of, role),
    backwards=getattr(options, 'direction', '') == 'from_data',
  )


def _typed(options: Sampling) -> str:
  """'--sampler=heun --nfe=5', and the options that are not defaults."""
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
