"""Positions along an axis, moved apart as little as possible."""

from collections.abc import Sequence

import numpy as np


def spread(wanted: Sequence[float], gap: float) -> np.ndarray:
  """The nearest positions in [0, 1] that are at least `gap` apart, in order.

  Nearest in least squares: neighbours that are too close become a block around
  their mean (isotonic regression by pooling adjacent violators). If they do not
  fit into [0, 1], they exceed both ends equally.
  """
  order = np.argsort(wanted, kind='stable')
  blocks: list[tuple[float, int]] = []
  for position in np.asarray(wanted)[order] - gap * np.arange(len(order)):
    blocks.append((float(position), 1))
    while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
      (a, m), (b, n) = blocks[-2:]
      blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
  first = np.concatenate([np.full(n, position) for position, n in blocks])
  room = 1 - gap * (len(order) - 1)
  ends = (0, room) if room > 0 else (room / 2, room / 2)
  positions = np.empty(len(order))
  positions[order] = np.clip(first, *ends) + gap * np.arange(len(order))
  return positions
