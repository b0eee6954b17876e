"""Pipelines of diffusers whose transformer is a network of ours."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.build.hub import fetched
from flowdistill.convert.diffusers_writing import write_folder
from flowdistill.convert.pipelines import (
  INDEX,
  SCHEDULER,
  TRANSFORMER,
  Jumps,
  open_base,
  read_base,
  write_pipeline,
)
from flowdistill.convert.rules import Arrays

DISTILLED = 'distilled_guidance'


def embedded_guidance(network: Mapping[str, Any]) -> float | None:
  """The scale that a network such as FLUX.1-dev embeds; None if it has none.

  It is None, too, where the examples say it.
  """
  return network.get(DISTILLED) if network.get('guidance_embeds') else None


def fetched_base(source: str) -> pathlib.Path:
  """All of a pipeline of the hub but its transformer, on this machine.

  Args:
    source: hub:OWNER/NAME@COMMIT.

  Raises:
    ValueError: as `fetched`, or if its index cannot be read.
  """
  parts = read_base(fetched(source, [INDEX])).parts
  return fetched(source, [INDEX, *(f'{p}/*' for p in (*parts, SCHEDULER))])


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
      ValueError: if the number of jumps, the guidance scale, or the one that
        is embedded is missing, or one of the first two has no effect.
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
    embedded = embedded_guidance(network)
    if network.get('guidance_embeds') and embedded is None:
      raise ValueError(
        f'network.{DISTILLED} = None must be a number, which the pipeline '
        'records: in training the examples have said it'
      )
    times = np.linspace(1, 0, self.nfe + 1)[:-1]
    return Jumps(times.tolist(), self.guidance, embedded)

  def transformer(self, folder: pathlib.Path) -> pathlib.Path:
    """Where the network is in a pipeline."""
    return folder / TRANSFORMER


WITHOUT = {
  'nfe': 'a network of one time is sampled as that of the pipeline',
  'guidance': 'this network takes no guidance scale',
}


def write_for_diffusers(
  path: pathlib.Path,
  network: Mapping[str, Any],
  theirs: Arrays,
  pipeline: Pipeline | None = None,
) -> None:
  """Writes a folder that diffusers loads: a transformer, or a whole pipeline.

  Args:
    path: of the new folder.
    network: name and options of the transformer.
    theirs: its arrays by the names of diffusers.
    pipeline: what else it consists of; None writes the transformer alone.

  Raises:
    ValueError: if there is no class for the network, and as `Pipeline.check`.
  """
  if pipeline is None:
    write_folder(path, network, theirs)
    return
  base = open_base(pipeline.base, network['name'])
  jumps = pipeline.jumps(network)
  called = jumps is not None
  write_folder(pipeline.transformer(path), network, theirs, called=called)
  write_pipeline(path, base, network['name'], jumps)
