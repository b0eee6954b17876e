"""Data sets, functions `f(*, split, ...) -> source`, and their batches.

A source has a `spec` (see `flow/spec.py`), and either random access (see
`source.py`) or an order of its own (see `stream.py`). `Source` is a table in
memory, `Pictures` and `Rows` read files when indexed. `pipeline.make_batches`
turns a source into batches whose order is a function of (seed, position) alone.
"""

from flowdistill.datasets.arrays import arrays
from flowdistill.datasets.digits import digits
from flowdistill.datasets.emoji import emoji
from flowdistill.datasets.folder import folder
from flowdistill.datasets.hugging_face import hugging_face
from flowdistill.datasets.latents import latents
from flowdistill.datasets.noise import noise
from flowdistill.datasets.parquet import parquet
from flowdistill.datasets.records import tfds
from flowdistill.datasets.shapes import shapes
from flowdistill.datasets.toys import checkerboard, gaussians, moons
from flowdistill.datasets.webdataset import webdataset

DATASETS = {
  'digits': digits,
  'emoji': emoji,
  'folder': folder,
  'tfds': tfds,
  'arrays': arrays,
  'webdataset': webdataset,
  'parquet': parquet,
  'hugging_face': hugging_face,
  'latents': latents,
  'shapes': shapes,
  'noise': noise,
  'moons': moons,
  'gaussians': gaussians,
  'checkerboard': checkerboard,
}
