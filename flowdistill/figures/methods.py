"""What the methods of a comparison have measured, over the number of NFE."""

import dataclasses
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from flowdistill.config.bind import ConfigError, Spec, suggest
from flowdistill.config.sections import STUDENT
from flowdistill.config.stages import TEACHER
from flowdistill.evaluators.signature import Row
from flowdistill.figures.columns import (
  beside,
  figures,
  measured,
  trained_on,
)

DISTANCES = ('frechet_', 'fid', 'energy_distance')  # prefixes of figures
Ways = dict[tuple[str, str], dict[str, dict[float | None, Row]]]
"""(method, sampler with options) -> stage -> NFE, None if adaptive -> row."""
Cost = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Point:
  """A figure: the median over seeds and its range.

  Attributes:
    nfe: network evaluations per image.
    value, low, high: median, least and most.
    adaptive: whether the sampler chose the NFE.
    trained_on: the training losses that asked the feature network.
    measured: how; a list of values where seeds differ.
  """

  nfe: float
  value: float
  low: float
  high: float
  adaptive: bool = False
  trained_on: str = ''
  measured: Mapping[str, Any] = dataclasses.field(
    default_factory=dict, compare=False
  )


@dataclasses.dataclass(frozen=True)
class Method:
  """One line of the picture: what was trained, and how it is sampled.

  Attributes:
    name: in the picture and the table.
    teacher: whether another stage was distilled from it.
    points: in the order of NFE.
    seeds: number of runs that the medians are over.
    steps: of training, None if unknown.
    forward_passes: the cost of training, None if unknown.
    parameters: of the network, None if unknown.
    macs: multiply-accumulate operations of a call for one example, or None.
  """

  name: str
  teacher: bool
  points: tuple[Point, ...]
  seeds: int = 1
  steps: int | None = None
  forward_passes: float | None = None
  parameters: int | None = None
  macs: int | None = None

  def best(self) -> Point:
    """The point with the lowest figure."""
    return min(self.points, key=lambda point: point.value)


def choose_metric(rows: Mapping[str, Sequence[Row]], wanted: str) -> str:
  """The figure that is asked for, or the first distance."""
  known = figures_in([row for each in rows.values() for row in each])
  if wanted and wanted not in known:
    raise ConfigError(
      f'--metric={wanted} was measured by no stage; {suggest(wanted, known)}'
    )
  distances = [key for key in known if key.startswith(DISTANCES)]
  if not wanted and not distances:
    raise ConfigError(
      'no stage has measured a Fréchet or energy distance; set --metric=NAME'
    )
  return wanted or distances[0]


def figures_in(rows: Sequence[Row]) -> list[str]:
  """The figures of rows, without those that are the spread of another one."""
  keys = {(key, ''): key for row in rows for key in figures(row)}
  return [name for key, name in keys.items() if not beside(key, keys)]


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
        trained_on=', '.join(
          dict.fromkeys(filter(None, (trained_on(measured(r)) for r in rows)))
        ),
        measured=_provenance(rows),
      )
    )
  return tuple(sorted(points, key=lambda point: point.nfe))


def _provenance(rows: Sequence[Row]) -> dict[str, Any]:
  """How the figures of several seeds were measured."""
  values: dict[str, dict[str, None]] = {}
  for row in rows:
    for key, text in measured(row).items():
      values.setdefault(key, {})[text] = None
  loaded = {key: [*map(json.loads, texts)] for key, texts in values.items()}
  return {k: v[0] if len(v) == 1 else v for k, v in loaded.items()}


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
