"""Data sets, functions `f(*, split, ...) -> Source`, and the batches of one.

A Source is a table of examples in memory; `pipeline.make_batches` turns it into
batches whose order is a function of (seed, position) alone.
"""

from flowdistill.datasets.digits import digits
from flowdistill.datasets.toys import checkerboard, gaussians, moons

DATASETS = {
  'digits': digits,
  'moons': moons,
  'gaussians': gaussians,
  'checkerboard': checkerboard,
}
