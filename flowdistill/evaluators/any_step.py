"""The any-step curve: quality at 1, 2, 4, ... 32 network evaluations."""

import pathlib
from collections.abc import Iterator
from typing import Any

from flowdistill.evaluators.energy import energy
from flowdistill.evaluators.few_step import few_step
from flowdistill.evaluators.signature import Data, Gauge, Models, Row

ANY_STEP: dict[str, Any] = {
  'student': [['flow_map', nfe] for nfe in (1, 2, 4, 8, 16, 32)]
}


def any_step(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = ANY_STEP,
  samples: int = 3594,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields the rows of `few_step` and draws samples/any_step.png.

  Without features (for points) these are the rows of `energy`, without a
  picture: that estimate may be negative, and the axes are logarithmic.

  Args:
    models: role -> model.
    source: the real examples.
    features: the feature network; None for points.
    folder: of the stage.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, at least 2.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range.
  """
  options: dict[str, Any] = {'sweep': sweep, 'samples': samples, 'seed': seed}
  if features is None:
    return energy(models, source, features, folder, **options)
  return few_step(
    models, source, features, folder, **options, picture='any_step'
  )
