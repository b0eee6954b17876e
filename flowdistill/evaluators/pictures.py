"""Samples of several models side by side, from the same noise."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flowdistill.evaluators.mosaic import side_by_side
from flowdistill.evaluators.scatter import scatter
from flowdistill.evaluators.sheets import MOST, write_sheet
from flowdistill.evaluators.signature import (
  Data,
  Gauge,
  Models,
  Row,
  real_examples,
)
from flowdistill.evaluators.sweep import (
  SWEEP,
  SweepEntry,
  conditions,
  draw,
  parse_sweep,
)
from flowdistill.flow.spec import LABEL

COLUMNS, POINTS = 10, 2000


def pictures(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  examples: int | None = None,
  prompts: tuple[str, ...] = (),
  seed: int = 0,
) -> Iterator[Row]:
  """Draws samples/<roles of the sweep, with _and_>.png, and yields no rows.

  With prompts the name ends in _of_prompts.

  Images are also written to sheets/, a file per entry (see `sheets.py`).

  Args:
    models: role -> model.
    source: the real examples: images [h, w, 1 or 3] or points [2].
    features: unused, every evaluator takes it.
    folder: of the stage.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    examples: of each model and NFE, of the classes in turn; None is one per
      class, of 40 at equal distances if there are more, 10 without classes,
      2000 for points; one per prompt, if there are any.
    prompts: texts that stand over the columns in place of the classes, and are
      drawn at every evaluation; they are repeated cyclically.
    seed: of their noise.

  Raises:
    ValueError: if an option is out of range, or such examples have no picture.
  """
  del features
  entries = parse_sweep(sweep, models)
  if examples is not None and examples < 1:
    raise ValueError(f'examples = {examples} must be at least 1')
  points = are_points(source.spec.shape)
  n = examples or len(prompts) or (POINTS if points else 0)
  index = np.arange(n) if n else classes_of(source.spec.num_classes)
  said = source.encode(prompts) if prompts else {}
  roles = dict.fromkeys(entry.model for entry in entries)
  name = '_and_'.join(roles) + ('_of_prompts' if prompts else '')
  path = folder / 'samples' / f'{name}.png'
  shown = Shown(index, seed, prompts, said)
  return _draw(models, source, path, entries, shown)


@dataclasses.dataclass(frozen=True)
class Shown:
  """What is drawn of every entry.

  Attributes:
    index: the class of each example, in turn.
    seed: of their noise.
    prompts: texts, () for none.
    said: the conditions of the prompts.
  """

  index: np.ndarray
  seed: int
  prompts: tuple[str, ...]
  said: Mapping[str, np.ndarray]

  @property
  def n(self) -> int:
    """How many examples."""
    return len(self.index)

  @property
  def headings(self) -> list[str]:
    """The prompt of each example."""
    repeats = itertools.cycle(self.prompts)
    return [*itertools.islice(repeats, self.n)]

  @property
  def cond(self) -> dict[str, np.ndarray]:
    """The conditions of the prompt of each example, [n, ...]."""
    index = np.arange(self.n)
    return {name: rows[index % len(rows)] for name, rows in self.said.items()}


def _draw(
  models: Models,
  source: Data,
  path: pathlib.Path,
  entries: list[SweepEntry],
  shown: Shown,
) -> Iterator[Row]:
  n, seed = shown.n, shown.seed
  cond = {**source.spec.each_class(shown.index), **shown.cond}
  if source.spec.cond.keys() - cond:
    cond = {**conditions(source, n), **cond}
  samples = [draw(models, entry, n, cond, seed) for entry in entries]
  if len(source.spec.shape) == 1:
    scatter(path, samples, real_examples(source, POINTS))
  else:
    headings = shown.headings or [str(k) for k in cond.get(LABEL, ())]
    side_by_side(path, samples, headings=headings)
    for entry, x in samples:
      write_sheet(path.parents[1], entry, x, seed=seed, prompts=shown.prompts)
  yield from ()


def classes_of(number: int) -> np.ndarray:
  """Classes [n] that are shown: at most `MOST`, at equal distances."""
  n = min(number or COLUMNS, MOST)
  return np.arange(n) * max(number, n) // n


def are_points(shape: tuple[int, ...]) -> bool:
  """Whether examples are points; raises ValueError unless points or images."""
  image = len(shape) == 3 and shape[-1] in (1, 3)
  if not image and shape != (2,):
    raise ValueError(
      f'shape = {shape} must be [h, w, 1 or 3] of images or [2] of points: '
      'other examples have no picture'
    )
  return not image
