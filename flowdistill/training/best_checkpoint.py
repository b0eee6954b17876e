"""Which checkpoint is kept as the best."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Best:
  """Orbax's PreservationPolicy for the checkpoint with the lowest figure."""

  figures: Mapping[int, float]

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> Sequence[bool]:
    """Whether each checkpoint, which has a `step`, is the best."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    known = {s: f for s in steps if not math.isnan(f := self._figure(s))}
    lowest = min(known, key=known.__getitem__, default=None)
    return [step == lowest for step in steps]

  def _figure(self, step: int) -> float:
    return self.figures.get(step, math.nan)
