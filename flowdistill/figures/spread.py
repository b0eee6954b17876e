"""Places along an axis, moved apart as little as it takes."""

from collections.abc import Sequence

import numpy as np


def spread(wanted: Sequence[float], gap: float) -> np.ndarray:
  """The nearest places in [0, 1] that are at least `gap` apart, in order.

  Nearest in the sum of squares: neighbours that are too close become a block
  about their mean (isotonic regression by pooling adjacent violators). If they
  do not fit into [0, 1], they stand out of it at both ends alike.
  """
  order = np.argsort(wanted, kind='stable')
  blocks: list[tuple[float, int]] = []
  for place in np.asarray(wanted)[order] - gap * np.arange(len(order)):
    blocks.append((float(place), 1))
    while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
      (a, m), (b, n) = blocks[-2:]
      blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
  first = np.concatenate([np.full(n, place) for place, n in blocks])
  room = 1 - gap * (len(order) - 1)
  ends = (0, room) if room > 0 else (room / 2, room / 2)
  places = np.empty(len(order))
  places[order] = np.clip(first, *ends) + gap * np.arange(len(order))
  return places
