"""Jobs, each a `run(blueprints, options)` with a dataclass of options.

Those that are about several runs have a `run(folders, options)`.
"""

from flowdistill.jobs import (
  audit,
  bench,
  compare,
  convert,
  encode,
  evaluate,
  generate,
  index,
  pairs,
  plan,
  replay,
  report,
  shard,
  train,
)

JOBS = {
  'train': train,
  'evaluate': evaluate,
  'generate': generate,
  'pairs': pairs,
  'encode': encode,
  'shard': shard,
  'index': index,
  'convert': convert,
  'replay': replay,
  'audit': audit,
  'bench': bench,
  'plan': plan,
  'compare': compare,
  'report': report,
}
