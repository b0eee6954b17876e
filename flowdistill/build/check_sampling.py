"""Can one draw from a network in this way?"""

from collections.abc import Mapping
from typing import Any

from flowdistill.build.objects import Model
from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.datasets.source import Source
from flowdistill.flow.spec import DataSpec


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
    ValueError: for what `plan_sampling` refuses.
  """
  plan_sampling(
    sampler,
    nfe,
    options,
    spec=DataSpec.labelled(source.shape, source.num_classes),
    scalars=model.scalars,
    backwards=backwards,
  )
