"""Opens a folder of pairs of data and noise, of ours or of SlimFlow."""

import pathlib

from flowdistill.datasets.pairs import Pairs, open_store
from flowdistill.datasets.slimflow import is_slimflow, open_slimflow


def open_pairs(folder: pathlib.Path) -> Pairs:
  """The pairs in a folder.

  Raises:
    ValueError: if it has no pairs, or they are incomplete.
  """
  return open_slimflow(folder) if is_slimflow(folder) else open_store(folder)
