"""Pipelines of diffusers whose transformer is a network of ours."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.convert.diffusers_writing import write_folder
from flowdistill.convert.pipelines import (
  TRANSFORMER,
  Jumps,
  open_base,
  write_pipeline,
)
from flowdistill.convert.rules import Arrays

DISTILLED = 'distilled_guidance'


@dataclasses.dataclass(frozen=True)
class Pipeline:
  """A pipeline to write.

  Attributes:
    base: folder of the pipeline whose other parts are copied.
    nfe: number of jumps of equal length that a flow map is sampled with by
      default; None for a network of one time.
    guidance: scale that it is told by default; None for one that takes none.
  """

  base: pathlib.Path
  nfe: int | None = None
  guidance: float | None = None

  def __post_init__(self) -> None:
    if self.guidance is not None and not math.isfinite(self.guidance):
      raise ValueError(f'--guidance={self.guidance} must be a finite number')

  def check(self, network: Mapping[str, Any]) -> None:
    """Checks that it can be written with a network.

    Raises:
      ValueError: as `jumps`, or if the base is not complete or of another
        network.
    """
    open_base(self.base, network['name'])
    self.jumps(network)

  def jumps(self, network: Mapping[str, Any]) -> Jumps | None:
    """How a network is sampled by default; None as that of `base`.

    Raises:
      ValueError: if the number of jumps or the guidance scale is missing, or
        has no effect.
    """
    takes = {
      'nfe': network['target_time'] is not None,
      'guidance': bool(network['scalars']),
    }
    for name, needed in takes.items():
      value = getattr(self, name)
      if needed and value is None:
        raise ValueError(
          f'--{name} is missing: the pipeline records one, as a default'
        )
      if not needed and value is not None:
        raise ValueError(f'--{name}={value:g} has no effect: {WITHOUT[name]}')
    if self.nfe is None:
      return None
    times = np.linspace(1, 0, self.nfe + 1)[:-1]
    return Jumps(times.tolist(), self.guidance, network.get(DISTILLED))


WITHOUT = {
  'nfe': 'a network of one time is sampled as that of the pipeline',
  'guidance': 'this network takes no guidance scale',
}


def write_pipeline_folder(
  path: pathlib.Path,
  network: Mapping[str, Any],
  theirs: Arrays,
  pipeline: Pipeline,
) -> None:
  """Writes a folder that `DiffusionPipeline.from_pretrained` loads.

  Args:
    path: of the new folder.
    network: name and options of the transformer.
    theirs: its arrays by the names of diffusers.
    pipeline: what else it consists of.

  Raises:
    ValueError: as `Pipeline.jumps`, if diffusers has no class for the network,
      or the base is not complete or of another network.
  """
  base = open_base(pipeline.base, network['name'])
  jumps = pipeline.jumps(network)
  called = jumps is not None
  write_folder(path / TRANSFORMER, network, theirs, called=called)
  write_pipeline(path, base, network['name'], jumps)
