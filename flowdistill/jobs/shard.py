"""`--job=shard`: writes a captioned data set as tar shards, or as parquet.

  python -m flowdistill.main --config C --job=shard --out=SHARDS

The data set is that of the last stage of the config, or of `--stage`. A shard
is written atomically, and the same examples give the same bytes: after an
interruption the job continues.
"""

import dataclasses
import pathlib

from flowdistill.config.bind import ConfigError, join, suggest
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import path_of
from flowdistill.stages.sharding import FORMATS, shard_dataset


@dataclasses.dataclass(frozen=True)
class Options:
  """The data set, and how it is written.

  Attributes:
    stage: whose data set is written; by default the last one.
    format: webdataset (PNG and .txt in tar files, with their index) or parquet.
    per_shard: examples of a shard.
    out: the folder of the shards.
  """

  stage: str = ''
  format: str = 'webdataset'
  per_shard: int = 10_000
  out: str = ''

  def __post_init__(self) -> None:
    if self.format not in FORMATS:
      raise ConfigError(
        f'--format={self.format} does not exist; '
        f'{suggest(self.format, FORMATS)}'
      )
    if self.per_shard < 1:
      raise ConfigError(f'--per_shard={self.per_shard} must be at least 1')


def run(blueprints: Blueprints, options: Options) -> list[pathlib.Path]:
  """Writes the shards, and returns their paths.

  Raises:
    ConfigError: if the data set has no captions or no index, or the folder has
      other files.
  """
  if not options.out:
    raise ConfigError('--out is missing: the folder of the shards')
  specs = blueprints.specs
  name = options.stage or [*specs][-1]
  if name not in specs:
    raise ConfigError(f'--stage={name} does not exist; {suggest(name, specs)}')
  out = path_of('out', options.out)
  return shard_dataset(
    specs[name]['dataset'],
    join(blueprints.where(name), 'dataset'),
    out,
    kind=options.format,
    per_shard=options.per_shard,
  )
