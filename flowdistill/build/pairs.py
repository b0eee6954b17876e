"""Pairs of data and noise in a folder, of ours or of SlimFlow."""

import pathlib

from flowdistill.datasets.pairs import Pairs, open_store
from flowdistill.datasets.slimflow import is_slimflow, open_slimflow


def open_pairs(folder: pathlib.Path) -> Pairs:
  """The pairs in a folder.

  Raises:
    ValueError: if there are none, or they are not finished.
  """
  return open_slimflow(folder) if is_slimflow(folder) else open_store(folder)
