"""A pipeline of diffusers with another transformer.

The other parts are those of the pipeline that the student comes from. A flow
map has a pipeline of ours (`flow_maps/pipeline.py`), which tells it both times,
and the scheduler that diffusers has for flow maps.

Source of the layout: `DiffusionPipeline.save_pretrained` of
https://github.com/huggingface/diffusers, 0.42.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from flowdistill.convert.diffusers_classes import FLOW_MAPS, MODULE, PLAIN
from flowdistill.convert.diffusers_folder import CLASS
from flowdistill.convert.diffusers_writing import VERSION
from flowdistill.files.json_reader import read_json

INDEX = 'model_index.json'
TRANSFORMER, SCHEDULER = 'transformer', 'scheduler'
PIPELINES = {'flux': 'FluxPipeline', 'sd3': 'StableDiffusion3Pipeline'}
"""Name of our network -> class of diffusers."""
OURS = {'flux': 'FlowMapFluxPipeline', 'sd3': 'FlowMapSD3Pipeline'}
"""The same of two times."""
PIPELINE = MODULE.with_name('pipeline.py')
FLOW_MAP_EULER = 'FlowMapEulerDiscreteScheduler'
THOUSAND = 1000


@dataclasses.dataclass(frozen=True)
class Base:
  """A pipeline in a folder.

  Attributes:
    path: of the folder.
    index: its model_index.json.
  """

  path: pathlib.Path
  index: Mapping[str, Any]

  @property
  def parts(self) -> list[str]:
    """Those of its folders that any student shares."""
    return [
      name
      for name, value in self.index.items()
      if isinstance(value, list) and all(value) and name[0] != '_'
      and name not in (TRANSFORMER, SCHEDULER)
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Jumps:
  """How a flow map is sampled by default.

  Attributes:
    step_times: at which jumps begin, from 1 downwards; the last one ends at 0.
    guidance_scale: that it is told; None for one that takes none.
    distilled_guidance: the scale that FLUX.1-dev embeds; None without one.
  """

  step_times: Sequence[float]
  guidance_scale: float | None
  distilled_guidance: float | None


def read_base(path: pathlib.Path) -> Base:
  """Reads what a pipeline consists of.

  Raises:
    ValueError: naming the file, if it cannot be read.
  """
  try:
    return Base(path, read_json(path / INDEX))
  except OSError as error:
    reason = f'{path / INDEX} cannot be read: {error.strerror}'
    raise ValueError(reason) from error


def open_base(path: pathlib.Path, network: str) -> Base:
  """Opens a pipeline whose parts are all there.

  Args:
    path: of its folder.
    network: our name of its transformer.

  Raises:
    ValueError: naming the file, if it cannot be read, is of another class, or a
      part has no folder of its own.
  """
  base = read_base(path)
  if network not in PIPELINES:
    raise ValueError(
      f'network.name = {network!r} must be one of {", ".join(PIPELINES)} for a '
      'pipeline of diffusers'
    )
  if (kind := base.index.get(CLASS)) != PIPELINES[network]:
    raise ValueError(
      f'{path / INDEX} is of the class {kind!r}; for network.name = '
      f'{network!r} it must be {PIPELINES[network]!r}'
    )
  for part in (*base.parts, SCHEDULER):
    if pathlib.PurePath(part).name != part:
      raise ValueError(f'{path / INDEX}: {part!r} must be the name of a folder')
    if not (path / part).is_dir():
      raise ValueError(f'{path / part} is not there, and {INDEX} names it')
  return base


def write_pipeline(
  path: pathlib.Path, base: Base, network: str, jumps: Jumps | None
) -> None:
  """Writes all but the transformer, which has its folder in `path`.

  Args:
    path: of the new folder.
    base: of which the other parts are copied.
    network: our name of the transformer.
    jumps: of a flow map; None for a network of one time, which is sampled as
      that of `base`.
  """
  for part in base.parts:
    shutil.copytree(base.path / part, path / part)
  index = {**base.index, '_diffusers_version': VERSION}
  index[TRANSFORMER] = ['diffusers', PLAIN[network]]
  if jumps is None:
    shutil.copytree(base.path / SCHEDULER, path / SCHEDULER)
  else:
    index |= _of_flow_map(network, jumps)
    shutil.copyfile(PIPELINE, path / PIPELINE.name)
    _write_scheduler(path / SCHEDULER)
  _dump(index, path / INDEX)


def _of_flow_map(network: str, jumps: Jumps) -> dict[str, Any]:
  return {
    CLASS: [PIPELINE.stem, OURS[network]],
    SCHEDULER: ['diffusers', FLOW_MAP_EULER],
    TRANSFORMER: [MODULE.stem, FLOW_MAPS[network]],
    **{k: v for k, v in dataclasses.asdict(jumps).items() if v is not None},
    'classifier_free_guidance': False,
  }


def _write_scheduler(folder: pathlib.Path) -> None:
  folder.mkdir()
  config = {
    CLASS: FLOW_MAP_EULER,
    '_diffusers_version': VERSION,
    'num_train_timesteps': THOUSAND,
    'shift': 1.0,  # the step times are those of the network
  }
  _dump(config, folder / 'scheduler_config.json')


def _dump(value: Mapping[str, Any], path: pathlib.Path) -> None:
  path.write_text(json.dumps(value, indent=2) + '\n')
