"""Can one draw from a network in this way?"""

from collections.abc import Mapping
from typing import Any

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.datasets.source import Source


def check_sampling(
  model: Model,
  source: Source,
  sampler: str,
  nfe: int | None,
  options: Mapping[str, Any],
  *,
  backwards: bool = False,
) -> None:
  """Checks that one can draw from a network in this way.

  Raises:
    ValueError: for what `build.check_sampler` refuses, and for guidance where
      there is none.
  """
  guidance = options.get('guidance')
  told = 'guidance' in model.scalars
  if guidance is not None and not told and not source.num_classes:
    raise ValueError(
      f'guidance = {guidance!r} has no effect: this data set has no conditions'
    )
  for name in {'backwards', 'scalars'} & {*options}:
    raise ValueError(f'{sampler} takes no {name!r}')
  build.check_sampler(
    sampler, nfe, scalars=model.scalars, backwards=backwards, **options
  )
