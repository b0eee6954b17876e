"""The best way of sampling for each NFE, in W/<stage>/presets.json."""

import dataclasses
import pathlib
import typing
from collections.abc import Iterable
from typing import Any

from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Sampling
from flowdistill.files.json_reader import fields, read_json, typed
from flowdistill.training.json_files import write_json

PRESETS = 'presets.json'


@dataclasses.dataclass(frozen=True)
class Preset:
  """One way of sampling, and the figure for which it was chosen.

  Attributes:
    model: a role.
    sampler: a name in SAMPLERS or PUBLISHED.
    nfe: network calls for one example.
    options: of the sampler, 'grid' and 'guidance'.
    figure: name of a figure, of which less is better.
    value: of the figure.
    samples: number of samples it was computed of.
    seed: of their noise.
    step: of the checkpoint.
    weights: of the role.
  """

  model: str
  sampler: str
  nfe: int
  options: dict[str, Any]
  figure: str
  value: float
  samples: int
  seed: int
  step: int
  weights: str

  @property
  def sampling(self) -> Sampling:
    """As options of a job."""
    how = dict(self.options)
    grid, guidance = how.pop('grid', None), how.pop('guidance', None)
    return Sampling(self.sampler, self.nfe, how, grid, guidance)

  def check(self, weights: str) -> None:
    """Raises ConfigError if it was chosen for other weights."""
    if weights != self.weights:
      raise ConfigError(
        f'the preset of the {self.model} at {self.nfe} NFE was chosen for '
        f'weights = {self.weights!r}, and must not be used with {weights!r}'
      )


TYPES = {**typing.get_type_hints(Preset), 'options': dict}


def read_presets(folder: pathlib.Path) -> list[Preset]:
  """The presets of a stage, by model and NFE; none if none were chosen.

  Raises:
    DamagedFileError: if the file has another content.
  """
  path = folder / PRESETS
  if not path.is_file():
    return []
  rows = [typed(row, dict, path, 'a preset') for row in read_json(path, list)]
  return [Preset(**fields(row, TYPES, path)) for row in rows]


def write_presets(folder: pathlib.Path, new: Iterable[Preset]) -> None:
  """Adds presets to those of other models and NFE, and replaces equal ones."""
  presets = {(p.model, p.nfe): p for p in (*read_presets(folder), *new)}
  ordered = [presets[key] for key in sorted(presets)]
  write_json(folder / PRESETS, [vars(preset) for preset in ordered])


def preset_of(folder: pathlib.Path, model: str, nfe: int) -> Preset:
  """The preset of a model at an NFE.

  Raises:
    ConfigError: if there is none, naming those that there are.
  """
  presets = [p for p in read_presets(folder) if p.model == model]
  for preset in presets:
    if preset.nfe == nfe:
      return preset
  known = ', '.join(f'{p.nfe}' for p in presets)
  fix = f'there are presets of {known} NFE' if known else 'there is none'
  raise ConfigError(
    f'no preset of the {model} at {nfe} NFE in {folder}: {fix}; '
    '--job=evaluate --tune=nfe,gamma chooses them'
  )
