"""Jobs: `run(stages, workdir, options)` each, with a dataclass of options."""

from flowdistill.jobs import (
  bench,
  compare,
  evaluate,
  generate,
  plan,
  replay,
  train,
)

JOBS = {
  'train': train,
  'evaluate': evaluate,
  'generate': generate,
  'replay': replay,
  'bench': bench,
  'plan': plan,
  'compare': compare,
}
