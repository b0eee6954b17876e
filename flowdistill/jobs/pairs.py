"""`--job=pairs`: makes pairs of data and noise, and writes them to a store.

A stage of the config that makes pairs has its own keys; otherwise the options
apply, to the flow of a stage that is trained:

  python -m flowdistill.main --workdir W --job=pairs --stage=flow \
    --count=50000 --sampler=rk45 --nfe=none

Pair i is a function of (seed, i), and a shard is written atomically: after an
interruption the job continues, to the same bytes, on one host or on several.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.sampling_plan import called, led_away
from flowdistill.build.tables import resolve_stage
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.kinds import PAIRS
from flowdistill.config.sampling import Sampling
from flowdistill.config.sections import STUDENT
from flowdistill.config.stages import TEACHER, PairStage
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_pairs import check_pairs
from flowdistill.stages.hosts import watch
from flowdistill.stages.job_options import path_of
from flowdistill.stages.pairing import make_pairs, make_stage_pairs
from flowdistill.workdir.folders import PAIRS as STORE
from flowdistill.workdir.lock import locked

GUIDE = 'guide'  # what guides a student, if that is its teacher


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """The pairs, their flow, and the folder. See also `PairStage`.

  Attributes:
    stage: a stage that makes pairs, without other options, or one that trains;
      by default the first that makes pairs, or else the last.
    model: a role, student or teacher.
    weights: of the student: ema, params, or the name of an EMA.
    out: folder of the store; by default W/<stage>/pairs.
  """

  stage: str = ''
  model: str = STUDENT
  weights: str = 'ema'
  sampler: str = 'rk45'
  nfe: int | None = None
  direction: str = PairStage.direction
  count: int = PairStage.count
  seed: int = PairStage.seed
  batch_size: int = PairStage.batch_size
  shard_size: int = PairStage.shard_size
  out: str = ''


def run(blueprints: Blueprints, options: Options) -> pathlib.Path:
  """Makes the pairs, and returns the folder of their store.

  Raises:
    ConfigError: if the flow is not trained, the folder has other pairs, or
      another job writes to it.
  """
  specs = blueprints.specs
  name = options.stage or default_stage(specs)
  with watch(specs, blueprints.workdir) as dog:
    if specs[name]['job'] == PAIRS:
      if options != Options(stage=options.stage):
        raise ConfigError(
          f'stage {name!r} makes pairs by its own keys: set those, as in '
          f'--config.stages.{name}.count=1000'
        )
      with locked(blueprints.folder(name), 'pairs'):
        return make_stage_pairs(blueprints, name, dog)
    spec = resolve_stage(spec_of(name, specs[name], options))
    blueprint = checked(spec, blueprints)
    blueprint = dataclasses.replace(blueprint, name=name)
    out = path_of('out', options.out) if options.out else None
    return make_pairs(blueprint, out or blueprints.folder(name) / STORE, dog)


def default_stage(specs: Mapping[str, Spec]) -> str:
  """The first stage that makes pairs, or else the last of all."""
  makers = [name for name, spec in specs.items() if spec['job'] == PAIRS]
  return [*makers, list(specs)[-1]][0]


def spec_of(name: str, spec: Spec, options: Options) -> dict[str, Any]:
  """The config of a stage that makes pairs, of the flow of another stage."""
  source = {'source': f'stage:{name}', 'weights': options.weights}

  def network(role: str) -> Any:
    return spec['frozen'].get(role, {**source, 'role': role})

  how, guides = options.how(), {}
  known = STUDENT, *spec['roles'], *spec['frozen']
  for away in called(options.model, options.guidance, lambda: known)[1:]:
    # The stage calls the network that is sampled its teacher.
    named = GUIDE if away == TEACHER else away
    guides[named] = network(away)
    how['guidance'] = led_away(how['guidance'], named)
  at_random = options.direction == 'random'
  values = dataclasses.asdict(options)
  keys = {f.name for f in dataclasses.fields(PairStage)} & values.keys()
  return {
    **{key: values[key] for key in keys},
    'job': PAIRS,
    'dataset': spec['dataset'],
    'space': spec['space'],
    'teacher': None if at_random else network(options.model),
    'guides': guides,
    'options': how,
    'hosts': spec['hosts'],
  }


def checked(spec: Spec, blueprints: Blueprints) -> Blueprint:
  """The blueprint of the options, which are named in its errors."""
  last = ''  # no stage of a config has this name
  specs = {**blueprints.specs, last: spec}
  other = Blueprints(specs, blueprints.workdir, recorded=blueprints.recorded)
  try:
    check_pairs(other, last)
    return other[last]
  except ConfigError as error:
    text = str(error).replace(f'config.{other.where(last)}.', '--', 1)
    text = text.replace(f'config.{other.where(last)}', '--job=pairs', 1)
    raise ConfigError(text) from error
