"""A figure over the number of evaluations, a line per model and sampler."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from flowdistill.evaluators.canvas import (
  COLOURS,
  INK,
  colours,
  log_axes,
  new_figure,
  save,
)

Rows = Sequence[Mapping[str, Any]]
MARKERS = ('o', 'D', 's', '^', 'v', 'P')
HALO = withStroke(linewidth=3, foreground='white')  # keeps numbers legible


def curve(
  path: pathlib.Path, rows: Rows, *, metric: str = 'frechet_digits'
) -> None:
  """Draws `metric` over `nfe` on log-log axes as a PNG.

  The teacher is dashed, and its best row is a thin horizontal line.

  Args:
    path: of the PNG.
    rows: with `model`, `sampler`, `nfe`, optionally `options`, and `metric`.
    metric: a key of the rows, such as 'frechet_<features>'.
  """
  figure = new_figure(9, 4.8)
  ax = figure.add_axes((0.085, 0.135, 0.885, 0.825))
  _lines(ax, rows, metric)
  _best(ax, [r for r in rows if r['model'] == 'teacher'], metric)
  log_axes(ax, (row['nfe'] for row in rows), metric)
  ax.margins(x=0.06, y=0.12)
  ax.legend(frameon=False, fontsize=10, labelcolor=INK, handlelength=3)
  save(figure, path)


def _lines(ax: Axes, rows: Rows, metric: str) -> None:
  colour = colours(r['model'] for r in rows)
  lines = dict.fromkeys(_line_of(row) for row in rows)
  ways = dict.fromkeys(way for _, way in lines)
  marker = dict(zip(ways, MARKERS * len(ways), strict=False))
  for model, way in lines:
    points = [row for row in rows if _line_of(row) == (model, way)]
    points = sorted(points, key=lambda row: row['nfe'])
    ax.plot(
      [r['nfe'] for r in points],
      [r[metric] for r in points],
      color=colour[model],
      linestyle='--' if model == 'teacher' else '-',
      linewidth=2,
      marker=marker[way],
      markersize=7,
      markeredgecolor='white',
      markeredgewidth=1,
      label=f'{model}, {way}',
      clip_on=False,
      zorder=3,
    )
    for row in points:
      _write_value(ax, row, metric, colour[model])


def _line_of(row: Mapping[str, Any]) -> tuple[str, str]:
  """The model, and the way it was sampled: 'gamma, gamma=0.5'."""
  options = f', {row["options"]}' if 'options' in row else ''
  return row['model'], row['sampler'].replace('_', ' ') + options


def _write_value(
  ax: Axes, row: Mapping[str, Any], metric: str, colour: str
) -> None:
  """Beside a falling line: right above the teacher's, left below others."""
  above = row['model'] == 'teacher'
  ax.annotate(
    f'{row[metric]:#.3g}',
    (row['nfe'], row[metric]),
    (4, 5) if above else (-4, -6),
    textcoords='offset points',
    ha='left' if above else 'right',
    va='bottom' if above else 'top',
    fontsize=9,
    color=colour,
    zorder=4,
    path_effects=[HALO],
  )


def _best(ax: Axes, rows: Rows, metric: str) -> None:
  if not rows:
    return
  value = min(row[metric] for row in rows)
  ax.axhline(value, color=COLOURS[0], linewidth=0.8, zorder=2)
  ax.annotate(
    "teacher's best",
    (0, value),
    (4, -4),
    xycoords=('axes fraction', 'data'),
    textcoords='offset points',
    va='top',
    fontsize=9,
    color=COLOURS[0],
  )
