"""`--job=pairs`: pairs data with noise, and writes the pairs to a store.

A stage of the config that makes pairs says how; else the options say it, and
the pairs are those of a stage that is trained:

  python -m flowdistill.main --workdir W --job=pairs --stage=flow \
    --count=50000 --sampler=rk45 --nfe=none

Pair i is a function of (seed, i), and a shard is whole or not there: what was
interrupted goes on, and ends in the same bytes, on one host or on several.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from flowdistill.build import objects as build
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.files import TRAIN
from flowdistill.config.pair_stage import PairStage
from flowdistill.config.sampling import Sampling
from flowdistill.stages.check_pairs import check_pair_stage
from flowdistill.stages.hosts import watch
from flowdistill.stages.pairing import make_pairs
from flowdistill.training.watchdog import Watchdog
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CONFIG, PAIRS
from flowdistill.workdir.record import check_unchanged, record


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
  """What pairs, of which flow, and where to.

  Attributes:
    stage: that makes pairs, or whose flow does; by default the first that makes
      some, or else the last. Of the first kind the others have no effect.
    model: a role, student or teacher.
    weights: of the student: ema, params, or the name of an EMA.
    sampler: a name in SAMPLERS.
    nfe: calls of the network for one pair; None for a sampler that adapts.
    direction: from_noise, from_data or random.
    count: how many pairs.
    seed: of the noise.
    batch_size: of the network's calls.
    shard_size: pairs in a file.
    out: folder of the store; by default W/<stage>/pairs.
  """

  stage: str = ''
  model: str = 'student'
  weights: str = 'ema'
  sampler: str = 'rk45'
  nfe: int | None = None
  direction: str = PairStage.direction
  count: int = PairStage.count
  seed: int = PairStage.seed
  batch_size: int = PairStage.batch_size
  shard_size: int = PairStage.shard_size
  out: str = ''


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> pathlib.Path:
  """Makes the pairs, and returns the folder of their store.

  Raises:
    ConfigError: if the flow is not trained, or the folder has other pairs.
  """
  name = options.stage or default_stage(stages)
  folder = origins.stage_folder(workdir, name)
  with watch(stages, workdir) as dog:
    if stages[name]['job'] != TRAIN:
      if options != Options(stage=options.stage):
        raise ConfigError(
          f'stage {name!r} says itself how it makes pairs: set its keys, as in '
          f'--config.stages.{name}.count=1000'
        )
      return make_stage(name, stages[name], folder, workdir, dog)
    spec = build.resolve_stage(described(name, stages[name], options))
    check_described(spec, stages, workdir)
    out = pathlib.Path(options.out).expanduser() if options.out else None
    return make_pairs(name, spec, out or folder / PAIRS, workdir, dog)


def default_stage(stages: Mapping[str, Spec]) -> str:
  """The first stage that makes pairs, or else the last of all."""
  makers = [name for name, spec in stages.items() if spec['job'] != TRAIN]
  return [*makers, list(stages)[-1]][0]


def described(name: str, spec: Spec, options: Options) -> dict[str, Any]:
  """A stage that makes pairs as the options say, of the flow of a stage."""
  teacher: Any = {'source': f'stage:{name}', 'weights': options.weights}
  if options.model != 'student':
    teacher = spec['frozen'][options.model]
  given = dataclasses.asdict(options)
  keys = {f.name for f in dataclasses.fields(PairStage)} & given.keys()
  return {
    **{key: given[key] for key in keys},
    'job': 'pairs',
    'dataset': spec['dataset'],
    'teacher': None if options.direction == 'random' else teacher,
    'options': options.how(),
    'hosts': spec['hosts'],
  }


def check_described(
  spec: Spec, stages: Mapping[str, Spec], workdir: pathlib.Path
) -> None:
  """Checks what the options say, and names them in its errors."""
  last = ''  # no stage of a config is called that
  try:
    check_pair_stage(last, {**stages, last: spec}, workdir, PAIRS)
  except ConfigError as error:
    text = str(error).replace('config.pairs.', '--', 1)
    text = text.replace('config.pairs', '--job=pairs', 1)
    raise ConfigError(text) from error


def make_stage(
  name: str,
  spec: Spec,
  folder: pathlib.Path,
  workdir: pathlib.Path,
  dog: Watchdog,
) -> pathlib.Path:
  """Makes the pairs of a stage, in W/<stage>/pairs; finished ones stay."""
  check_unchanged(spec, folder)
  if jax.process_index() == 0 and not (folder / CONFIG).is_file():
    record(folder, spec, {})
  return make_pairs(name, spec, folder / PAIRS, workdir, dog)
