"""`--job=compare`: trains every stage, and compares all of them in one table.

  python -m flowdistill.main --config FILE.py --workdir W --job=compare

A finished stage is not trained again. The table has a figure of the stages'
evaluators, lower is better, against the number of network calls: in
W/comparison.md, W/comparison.json and W/samples/comparison.png. Stages called
NAME_seed1, NAME_seed2, ... are the method NAME with other seeds: the table has
their median and range.

  python -m flowdistill.main --job=compare runs/a runs/b --out=compare.md

trains nothing: it puts the figures of runs into one table, and says in what the
runs and their measurements differ. With `--seeds` the runs are one with several
seeds, and the table has medians and ranges.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.figures.comparison import comparison
from flowdistill.figures.markdown import COUNTS, markdown
from flowdistill.figures.methods import (
  Cost,
  Method,
  choose_metric,
  figures_in,
  gather,
)
from flowdistill.figures.runs import Stage, names_of, read_run
from flowdistill.figures.seeds import check_seeds_alone
from flowdistill.figures.side_by_side import side_by_side
from flowdistill.files.atomic import write_atomically
from flowdistill.jobs import train
from flowdistill.jobs.report import file_of
from flowdistill.planning.cost import forward_passes, size_of
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training import checkpoint
from flowdistill.training.json_files import write_json
from flowdistill.workdir.folders import (
  CHECKPOINTS,
  RESULTS,
  SAMPLES,
  given_path,
)
from flowdistill.workdir.results import read_rows, say

LAST, ALL = 'last', 'all'


@dataclasses.dataclass(frozen=True)
class Options:
  """The figures that are compared.

  Attributes:
    metric: a figure of the rows; by default the first Fréchet or energy
      distance. Of runs: figures, with commas; by default all.
    steps: of runs: last, the last evaluated checkpoint of each stage, or all.
    out: of runs: the file that the table is written to as Markdown.
    seeds: of runs that differ in their seed alone: the medians of all, with
      their ranges.
  """

  metric: str = ''
  steps: str = LAST
  out: str = ''
  seeds: bool = False

  def __post_init__(self) -> None:
    if self.steps not in (LAST, ALL):
      raise ConfigError(f'--steps={self.steps} must be last or all')


def run(blueprints: Blueprints, options: Options) -> list[Method]:
  """Trains unfinished stages, then writes the table and the plot.

  Raises:
    ConfigError: if no stage has evaluators, none has measured the figure, or an
      option is about several runs.
  """
  for name in ('steps', 'out', 'seeds'):
    if getattr(options, name) != getattr(Options(), name):
      raise ConfigError(
        f'--{name}={getattr(options, name)} has an effect only between the '
        'folders of runs: --job=compare RUN RUN'
      )
  stages, workdir = blueprints.trained, blueprints.workdir
  if not any(spec['evaluators'] for spec in stages.values()):
    raise ConfigError('no stage has evaluators: there is nothing to compare')
  train.run(blueprints, train.Options())
  if jax.process_index() > 0:
    return []
  folders = {name: blueprints.folder(name) for name in stages}
  rows = {name: read_rows(folder / RESULTS) for name, folder in folders.items()}
  steps = {
    name: checkpoint.completed_steps(folder / CHECKPOINTS)[-1]
    for name, folder in folders.items()
  }
  costs = {
    name: cost_of(blueprints[name], steps[name])
    for name, spec in stages.items()
    if spec['evaluators']
  }
  metric = choose_metric(rows, options.metric)
  methods = gather(stages, rows, steps, costs, metric)
  publish(workdir, methods, metric)
  return methods


def of_runs(runs: Sequence[str], options: Options) -> str:
  """Prints the figures of runs, and in what they differ; writes them to `out`.

  Args:
    runs: the folders of at least two runs.
    options: what is shown, and where it is written.

  Raises:
    ConfigError: if a folder is none of a run, there are too few, nothing has
      been measured, not what is asked for, or `out` cannot be a file.
  """
  if len(runs) < 2:
    raise ConfigError(
      f'--job=compare {" ".join(runs)} must be given at least two runs: '
      '--job=compare RUN RUN'
    )
  folders = [given_path(run, repr(run)) for run in runs]
  workdirs = dict(zip(names_of(folders), folders, strict=True))
  path = file_of(options.out) if options.out else None
  if options.seeds:
    check_seeds_alone(workdirs)
  stages = [
    stage
    for name, folder in workdirs.items()
    for stage in read_run(folder, name, rows_only=True)
  ]
  metrics = chosen(options.metric, stages)
  last = options.steps == LAST
  text = side_by_side(workdirs, stages, metrics, last=last, seeds=options.seeds)
  if path:
    write_atomically(path, text.encode(errors='replace'))
  say(f'{text}\nthe table is {path}' if path else text)
  return text


def chosen(metric: str, stages: Sequence[Stage]) -> list[str]:
  """The figures that are asked for, [] for all.

  Raises:
    ConfigError: if one was not measured, or nothing was.
  """
  known = figures_in([row for stage in stages for row in stage.rows])
  if not known:
    raise ConfigError(
      'none of the runs has results: evaluate them first, with --job=evaluate'
    )
  wanted = [name.strip() for name in metric.split(',') if name.strip()]
  for name in wanted:
    if name not in known:
      raise ConfigError(
        f'--metric={name} was measured by no run; {suggest(name, known)}'
      )
  return wanted


def cost_of(blueprint: Blueprint, steps: int) -> Cost:
  """Forward passes of training, parameters, and MACs of a call."""
  size = size_of(blueprint)
  return {
    'forward_passes': steps * forward_passes(blueprint),
    'parameters': size['parameters'],
    'macs': size['macs'],
  }


def publish(
  workdir: pathlib.Path, methods: Sequence[Method], metric: str
) -> None:
  """Writes the table as Markdown and JSON and the plot; prints the table."""
  text = markdown(methods, metric)
  write_atomically(workdir / 'comparison.md', text.encode())
  about = ('name', 'teacher', 'seeds', 'steps', *COUNTS)
  write_json(
    workdir / 'comparison.json',
    [
      {key: getattr(method, key) for key in about}
      | {'metric': metric}
      | dataclasses.asdict(point)
      for method in methods
      for point in method.points
    ],
  )
  comparison(workdir / SAMPLES / 'comparison.png', methods, metric=metric)
  say(f'{text}\ncomparison.md, .json and samples/ are in {workdir}')
