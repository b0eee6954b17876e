"""Data sets, functions `f(*, split, ...) -> Source`, and the batches of one.

A Source is a table of examples in memory; `Pictures` and the `Rows` of a file
are read when they are asked for. `pipeline.make_batches` turns it into batches
whose order is a function of (seed, position) alone.
"""

from flowdistill.datasets.arrays import arrays
from flowdistill.datasets.digits import digits
from flowdistill.datasets.folder import folder
from flowdistill.datasets.records import tfds
from flowdistill.datasets.toys import checkerboard, gaussians, moons

DATASETS = {
  'digits': digits,
  'folder': folder,
  'tfds': tfds,
  'arrays': arrays,
  'moons': moons,
  'gaussians': gaussians,
  'checkerboard': checkerboard,
}
