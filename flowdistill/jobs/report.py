"""`--job=report RUN RUN ...`: one page of several runs, side by side.

  python -m flowdistill.main --job=report runs/a runs/b --out=report.html

The page of one run is W/report.html, which every evaluation writes anew.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from flowdistill.config.bind import ConfigError
from flowdistill.figures.page import PAGE, write_page
from flowdistill.workdir.folders import given_path
from flowdistill.workdir.results import say


@dataclasses.dataclass(frozen=True)
class Options:
  """Where the page is written.

  Attributes:
    out: the file; by default report.html in the folder of the only run, or in
      the current folder.
  """

  out: str = ''


def run(runs: Sequence[str], options: Options) -> pathlib.Path:
  """Writes the page, and returns its path.

  Args:
    runs: the folders of at least one run.
    options: where it is written.

  Raises:
    ConfigError: if there is no run, a folder is none of a run, or `out` cannot
      be a file.
  """
  if not runs:
    raise ConfigError(
      '--job=report must be given the folders of runs: --job=report RUN RUN'
    )
  workdirs = [given_path(run, repr(run)) for run in runs]
  home = workdirs[0] if len(runs) == 1 else pathlib.Path()
  path = file_of(options.out) if options.out else home / PAGE
  write_page(path, workdirs)
  say(f'the page is {path}')
  return path


def file_of(out: str) -> pathlib.Path:
  """The path of the file `--out`.

  Raises:
    ConfigError: if it cannot be a file.
  """
  path = given_path(out, f'--out={out}')
  if path.is_dir() or not path.parent.is_dir():
    raise ConfigError(f'--out={out} must be a file in a folder that exists')
  return path
