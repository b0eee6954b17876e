"""Data sets, functions `f(*, split, ...) -> Source`, and the batches of one.

A Source is a table of examples in memory, and `Pictures` are read when they are
asked for; `pipeline.make_batches` turns it into
batches whose order is a function of (seed, position) alone.
"""

from flowdistill.datasets.digits import digits
from flowdistill.datasets.folder import folder
from flowdistill.datasets.records import tfds
from flowdistill.datasets.toys import checkerboard, gaussians, moons

DATASETS = {
  'digits': digits,
  'folder': folder,
  'tfds': tfds,
  'moons': moons,
  'gaussians': gaussians,
  'checkerboard': checkerboard,
}
