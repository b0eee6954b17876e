"""A figure over the number of evaluations, a line per model and sampler."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from flowdistill.evaluators.canvas import (
  COLOURS,
  FAINT,
  INK,
  MUTED,
  colours,
  new_figure,
  save,
)

Rows = Sequence[Mapping[str, Any]]
MARKERS = ('o', 'D', 's', '^', 'v', 'P')


def curve(
  path: pathlib.Path, rows: Rows, *, metric: str = 'frechet_digits'
) -> None:
  """Draws `metric` over `nfe` on log-log axes as a PNG.

  The teacher is dashed, and its best row is a thin horizontal line.

  Args:
    path: of the PNG.
    rows: with `model`, `sampler`, `nfe` and `metric`.
    metric: a key of the rows, 'frechet_<features>'.
  """
  figure = new_figure(9, 4.8)
  ax = figure.add_axes((0.085, 0.135, 0.885, 0.825))
  _lines(ax, rows, metric)
  _best(ax, [r for r in rows if r['model'] == 'teacher'], metric)
  _axes(ax, rows, metric)
  save(figure, path)


def _lines(ax: Axes, rows: Rows, metric: str) -> None:
  colour = colours(r['model'] for r in rows)
  lines = dict.fromkeys((r['model'], r['sampler']) for r in rows)
  markers = dict.fromkeys(sampler for _, sampler in lines)
  shape = dict(zip(markers, MARKERS * len(markers), strict=False))
  for model, sampler in lines:
    found = [r for r in rows if (r['model'], r['sampler']) == (model, sampler)]
    found = sorted(found, key=lambda row: row['nfe'])
    ax.plot(
      [r['nfe'] for r in found],
      [r[metric] for r in found],
      color=colour[model],
      linestyle='--' if model == 'teacher' else '-',
      linewidth=2,
      marker=shape[sampler],
      markersize=7,
      markeredgecolor='white',
      markeredgewidth=1,
      label=f'{model}, {sampler.replace("_", " ")}',
      clip_on=False,
      zorder=3,
    )
    for row in found:
      _value(ax, row, metric, colour[model])


def _value(ax: Axes, row: Mapping[str, Any], metric: str, colour: str) -> None:
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


def _axes(ax: Axes, rows: Rows, metric: str) -> None:
  ax.set(xscale='log', yscale='log')
  ax.set_xticks(sorted({row['nfe'] for row in rows}))
  ax.xaxis.set_major_formatter(FuncFormatter(lambda nfe, _: f'{nfe:.0f}'))
  ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
  for axis in (ax.xaxis, ax.yaxis):
    axis.set_minor_locator(NullLocator())
  name = metric.removeprefix('frechet_')
  ax.set_xlabel('NFE (network evaluations per image)', color=INK, fontsize=11)
  ax.set_ylabel(f'Fréchet distance ({name})', color=INK, fontsize=11)
  ax.tick_params(length=0, colors=MUTED, labelsize=10, pad=6)
  ax.grid(color=FAINT, linewidth=0.8)
  ax.set_axisbelow(True)
  for side, spine in ax.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(FAINT)
  ax.margins(x=0.06, y=0.12)
  ax.legend(frameon=False, fontsize=10, labelcolor=INK, handlelength=3)
