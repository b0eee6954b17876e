"""Rows of evaluators: on screen, in results.json, in TensorBoard."""

import pathlib
import shutil
from collections.abc import Sequence

import jax
import rich

from flowdistill.evaluators.signature import Row
from flowdistill.evaluators.table import table
from flowdistill.jobs.record import RESULTS
from flowdistill.training.record import write_json

SAMPLES = 'samples'
NAMED = ('model', 'sampler', 'nfe', 'samples', 'seed', 'step')


def say(text: str) -> None:
  """Prints a line, on the first host alone."""
  if jax.process_index() == 0:
    print(text, flush=True)


def describe(row: Row) -> str:
  """'student flow_map 4 NFE: frechet_digits 1.23, ...'."""
  figures = [f'{k} {v:.4g}' for k, v in row.items() if k not in NAMED]
  head = f'{row["model"]} {row["sampler"]} {row["nfe"]} NFE'
  return f'{head}: {", ".join(figures)}'


def flat(rows: Sequence[Row]) -> dict[str, float]:
  """'student/flow_map_4/frechet_digits' -> figure, for TensorBoard."""
  return {
    f'{row["model"]}/{row["sampler"]}_{row["nfe"]}/{name}': float(value)
    for row in rows
    for name, value in row.items()
    if name not in NAMED
  }


def publish(
  folder: pathlib.Path, workdir: pathlib.Path, rows: Sequence[Row]
) -> None:
  """Copies the last stage's table and pictures to W/, prints the table."""
  if folder != workdir:
    write_json(workdir / RESULTS, rows)
    if (folder / SAMPLES).is_dir():
      shutil.copytree(folder / SAMPLES, workdir / SAMPLES, dirs_exist_ok=True)
  if rows:
    rich.print(table(rows))
  say(f'results and pictures are in {workdir}')
