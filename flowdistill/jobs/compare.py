"""`--job=compare`: trains every stage, and compares all of them in one table.

  python -m flowdistill.main --config FILE.py --workdir W --job=compare

A finished stage is not trained again. The table has a figure of the stages'
evaluators, lower is better, against the number of network calls: in
W/comparison.md, W/comparison.json and W/samples/comparison.png. Stages called
NAME_seed1, NAME_seed2, ... are the method NAME with other seeds: the table has
their median and range.
"""

import dataclasses
import json
import os
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, Spec, suggest
from flowdistill.config.sections import STUDENT
from flowdistill.config.stages import TEACHER
from flowdistill.evaluators.signature import Row
from flowdistill.figures.comparison import Method, Point, comparison
from flowdistill.figures.markdown import COUNTS, markdown
from flowdistill.jobs import train
from flowdistill.planning.cost import forward_passes, size_of
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training import checkpoint
from flowdistill.training.json_files import naming, write_json
from flowdistill.workdir.folders import CHECKPOINTS, RESULTS, SAMPLES
from flowdistill.workdir.results import NAMED, say

DISTANCES = ('frechet_', 'energy_distance')  # prefixes of figures
Ways = dict[tuple[str, str], dict[str, dict[float | None, Row]]]
"""(method, sampler with options) -> stage -> NFE, None if adaptive -> row."""
Cost = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
  """The figure that is compared.

  Attributes:
    metric: a figure of the rows; by default the first Fréchet or energy
      distance.
  """

  metric: str = ''


def run(blueprints: Blueprints, options: Options) -> list[Method]:
  """Trains unfinished stages, then writes the table and the plot.

  Raises:
    ConfigError: if no stage has evaluators, or none has measured the figure.
  """
  stages, workdir = blueprints.trained, blueprints.workdir
  if not any(spec['evaluators'] for spec in stages.values()):
    raise ConfigError('no stage has evaluators: there is nothing to compare')
  train.run(blueprints, train.Options())
  if jax.process_index() > 0:
    return []
  folders = {name: blueprints.folder(name) for name in stages}
  rows = {
    name: json.loads((folder / RESULTS).read_text())
    for name, folder in folders.items()
  }
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


def cost_of(blueprint: Blueprint, steps: int) -> Cost:
  """Forward passes of training, parameters, and MACs of a call."""
  size = size_of(blueprint)
  return {
    'forward_passes': steps * forward_passes(blueprint),
    'parameters': size['parameters'],
    'macs': size['macs'],
  }


def choose_metric(rows: Mapping[str, Sequence[Row]], wanted: str) -> str:
  """The figure that is asked for, or the first distance."""
  keys = [key for each in rows.values() for row in each for key in row]
  figures = [key for key in dict.fromkeys(keys) if key not in NAMED]
  if wanted and wanted not in figures:
    raise ConfigError(
      f'--metric={wanted} was measured by no stage; {suggest(wanted, figures)}'
    )
  distances = [key for key in figures if key.startswith(DISTANCES)]
  if not wanted and not distances:
    raise ConfigError(
      'no stage has measured a Fréchet or energy distance; set --metric=NAME'
    )
  return wanted or distances[0]


def gather(
  stages: Mapping[str, Spec],
  rows: Mapping[str, Sequence[Row]],
  steps: Mapping[str, int],
  costs: Mapping[str, Cost],
  metric: str,
) -> list[Method]:
  """What each method measured, in the order of the stages.

  Args:
    stages: name -> resolved config.
    rows: of the stages' evaluators. Those of a teacher belong to its own stage;
      the first of several equal measurements is used.
    steps: number of steps of each stage.
    costs: of training and sampling, for the stages where they are known.
    metric: a key of the rows; rows without it are skipped.
  """
  ways: Ways = {}
  for stage, spec in stages.items():
    for row in rows[stage]:
      owner = _owner(stage, spec, row)
      if owner and metric in row:
        seeds = ways.setdefault((_method(owner), _way(row)), {})
        nfe = None if 'adaptive' in row else row['nfe']
        seeds.setdefault(owner, {}).setdefault(nfe, row)
  learnt_from = {_method(_teacher(s)) for s in stages.values() if _teacher(s)}
  methods = []
  order = list(dict.fromkeys(method for method, _ in ways))
  for (method, way), seeds in sorted(
    ways.items(), key=lambda item: order.index(item[0][0])
  ):
    several = sum(name == method for name, _ in ways) > 1
    teacher = method in learnt_from
    name = f'{method} (teacher)' if teacher else method
    methods.append(
      Method(
        name=f'{name}, {way}' if several else name,
        teacher=teacher,
        points=_points(list(seeds.values()), metric),
        seeds=len(seeds),
        steps=next((steps[s] for s in seeds if s in steps), None),
        **next((costs[s] for s in seeds if s in costs), {}),
      )
    )
  return methods


def _points(
  seeds: Sequence[Mapping[float | None, Row]], metric: str
) -> tuple[Point, ...]:
  """Median and range over the seeds, by NFE."""
  points = []
  for nfe in dict.fromkeys(key for each in seeds for key in each):
    rows = [each[nfe] for each in seeds if nfe in each]
    values = [row[metric] for row in rows]
    points.append(
      Point(
        nfe=nfe or statistics.median(row['nfe'] for row in rows),
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        adaptive=nfe is None,
      )
    )
  return tuple(sorted(points, key=lambda point: point.nfe))


def _owner(stage: str, spec: Spec, row: Row) -> str:
  """The stage whose network was measured, '' if none was sampled."""
  roles = {STUDENT: stage, TEACHER: _teacher(spec)}
  return roles.get(row['model'], '') if 'sampler' in row else ''


def _teacher(spec: Spec) -> str:
  """The stage that a stage learns from, or the folder; '' if it has none."""
  origin = spec['frozen'].get(TEACHER)
  if origin is None:
    return ''
  name = origin['source'].removeprefix('stage:')
  return name if origin['weights'] == 'ema' else f'{name} {origin["weights"]}'


def _method(stage: str) -> str:
  return re.sub(r'_seed\d+$', '', stage)


def _way(row: Row) -> str:
  """'gamma, gamma=0.5'."""
  options = f', {row["options"]}' if 'options' in row else ''
  return row['sampler'].replace('_', ' ') + options


def publish(
  workdir: pathlib.Path, methods: Sequence[Method], metric: str
) -> None:
  """Writes the table as Markdown and JSON and the plot; prints the table."""
  text = markdown(methods, metric)
  partial = workdir / f'.comparison.md.{os.getpid()}'
  with naming(workdir / 'comparison.md'):
    partial.write_text(text, encoding='utf-8')
    partial.replace(workdir / 'comparison.md')
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
