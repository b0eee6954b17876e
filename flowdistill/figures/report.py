"""What was measured, for people: the table on screen, copies at W/."""

import pathlib
from collections.abc import Sequence

import rich

from flowdistill.evaluators.signature import Row
from flowdistill.figures.table import table
from flowdistill.files.atomic import write_atomically
from flowdistill.training.json_files import write_json
from flowdistill.workdir.folders import RESULTS, SAMPLES
from flowdistill.workdir.results import say


def publish(
  folder: pathlib.Path, workdir: pathlib.Path, rows: Sequence[Row]
) -> None:
  """Prints the table, and copies it and the pictures of a stage to W/."""
  if folder != workdir:
    write_json(workdir / RESULTS, rows)
    if (folder / SAMPLES).is_dir():
      copy(folder / SAMPLES, workdir / SAMPLES)
  if rows:
    rich.print(table(rows))
  say(f'results and pictures are in {workdir}')


def copy(source: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies the files of a folder that are complete, each atomically."""
  for path in source.rglob('[!.]*'):
    if path.is_file():
      to = folder / path.relative_to(source)
      to.parent.mkdir(parents=True, exist_ok=True)
      write_atomically(to, path.read_bytes())
