"""`--job=index`: lists tar shards once, so that they are read by index.

  python -m flowdistill.main --job=index --path='SHARDS/{000000..000123}.tar'

A small file beside each shard says where its samples lie, and which shapes its
pictures have, for which each of them is read once. There is no config, and no
workdir.
"""

import dataclasses

from flowdistill.config.bind import ConfigError
from flowdistill.stages.sharding import index_shards


@dataclasses.dataclass(frozen=True)
class Options:
  """The shards.

  Attributes:
    path: a .tar, several by braces, or a folder of them.
  """

  path: str = ''


def run(options: Options) -> int:
  """Writes the indices, and returns the number of samples.

  Raises:
    ConfigError: if a shard is not there, is cut or is damaged.
  """
  if not options.path:
    raise ConfigError('--path is missing: the shards that are indexed')
  return index_shards(options.path)
