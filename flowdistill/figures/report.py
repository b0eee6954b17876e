"""What was measured, for people: the table on screen, copies at W/."""

import pathlib
import shutil
from collections.abc import Sequence

import rich

from flowdistill.evaluators.signature import Row
from flowdistill.figures.table import table
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
      shutil.copytree(folder / SAMPLES, workdir / SAMPLES, dirs_exist_ok=True)
  if rows:
    rich.print(table(rows))
  say(f'results and pictures are in {workdir}')
