"""What a run has measured, as a page shows it: rows, losses, pictures.

Whatever is damaged is left out and said in the notes of its stage: a page of a
run that was killed is worth looking at.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

from flowdistill.config.bind import ConfigError
from flowdistill.evaluators.signature import SHEETS, Row
from flowdistill.figures.losses import Curve, curves
from flowdistill.figures.sheets import Picture, pictures_in
from flowdistill.files.json_reader import DamagedFileError, refuse
from flowdistill.training.checkpoint import completed_steps
from flowdistill.training.log import METRICS
from flowdistill.workdir.folders import (
  CHECKPOINTS,
  EVALUATIONS,
  RESULTS,
  SAMPLES,
  stage_folder,
  stage_names,
)
from flowdistill.workdir.results import merged, read_rows

PICTURES = (SAMPLES, SHEETS)  # the others are of other weights
MOST_PLACES = 200  # evaluations of a stage that are looked at


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage of a run.

  Attributes:
    run: its name; '' if the page is of one run.
    name: of the stage.
    rows: of its evaluators, each measurement once, in the order of steps.
    curves: its metrics over the steps.
    pictures: of all its evaluations.
    notes: what the page leaves out.
  """

  run: str
  name: str
  rows: Sequence[Row] = ()
  curves: Sequence[Curve] = ()
  pictures: Sequence[Picture] = ()
  notes: Sequence[str] = ()


def read_run(
  workdir: pathlib.Path, run: str = '', *, rows_only: bool = False
) -> list[Stage]:
  """The stages of a run that have begun, in order.

  Args:
    workdir: of the run.
    run: its name.
    rows_only: whether curves and pictures are left out.

  Raises:
    ConfigError: if it is not the folder of a run.
    DamagedFileError: if its config.json is damaged.
  """
  return [
    read_stage(stage_folder(workdir, name), run, name, rows_only)
    for name in stage_names(workdir)
  ]


def names_of(workdirs: Sequence[pathlib.Path]) -> list[str]:
  """A name for each run, no two equal: the folder's, or as much as it takes.

  Raises:
    ConfigError: if a run is named twice.
  """
  full = [path.resolve() for path in workdirs]
  for path in full:
    if full.count(path) > 1:
      raise ConfigError(f'{path} must be named once')
  longest = max(len(path.parts) for path in full)
  for depth in range(1, longest):
    names = [pathlib.Path(*path.parts[-depth:]) for path in full]
    if len(set(names)) == len(names):
      return [f'{name}' for name in names]
  return [f'{path}' for path in full]


def read_stage(
  folder: pathlib.Path, run: str, name: str, rows_only: bool = False
) -> Stage:
  """What is in the folder of a stage, or its rows alone."""
  notes: list[str] = []
  places = sorted(
    (p for p in (folder / EVALUATIONS).glob('*') if p.name.isdecimal()),
    key=lambda path: (len(path.name), path.name),
  )
  kept = thinned(places, MOST_PLACES)
  if len(kept) < len(places):
    notes.append(
      f'{len(kept)} of {len(places)} evaluated checkpoints are shown.'
    )
  files = [path / RESULTS for path in (folder / EVALUATIONS, *kept, folder)]
  rows = _merged([_rows(path, notes) for path in files])
  if rows_only:
    return Stage(run, name, rows, notes=notes)
  steps = [row.get('step', 0) for row in rows]
  last = max([0, *steps, *completed_steps(folder / CHECKPOINTS)])
  pictures = list(pictures_in(folder, last, notes))
  for place in kept:
    pictures += pictures_in(place, int(place.name), notes)
    for other in sorted(p for p in place.iterdir() if p.name not in PICTURES):
      pictures += pictures_in(other, int(place.name), notes, other.name)
  return Stage(
    run=run,
    name=name,
    rows=rows,
    curves=curves(folder / METRICS, notes),
    pictures=pictures,
    notes=notes,
  )


def thinned(items: Sequence, most: int) -> list:
  """At most so many items, evenly spread, with the first and the last."""
  if len(items) <= most:
    return list(items)
  if most < 2:
    return list(items[-most:]) if most else []
  return [items[k * (len(items) - 1) // (most - 1)] for k in range(most)]


def _merged(parts: list[list[Row]]) -> list[Row]:
  """The rows of all parts; a later one replaces the same measurement."""
  while len(parts) > 1:
    pairs = itertools.zip_longest(parts[::2], parts[1::2], fillvalue=[])
    parts = [merged(a, b) for a, b in pairs]
  return parts[0]


def _rows(path: pathlib.Path, notes: list[str]) -> list[Row]:
  """The rows of a file; [] if there is none, or it is damaged."""
  if not path.is_file():
    return []
  try:
    rows = read_rows(path)
    if not all(isinstance(row.get('step', 0), int | float) for row in rows):
      refuse(path, "has a 'step' that is no number")
  except (OSError, DamagedFileError) as error:
    notes.append(f'{error}.')
    return []
  return rows
