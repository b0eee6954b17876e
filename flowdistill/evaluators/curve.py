"""A figure over the number of evaluations, a line per model and sampler."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
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
FRECHET = 'frechet_'
HALO = withStroke(linewidth=3, foreground='white')  # no line strikes a number
APART = 1.15  # ratio of two NFEs whose numbers do not touch


def curve(
  path: pathlib.Path, rows: Rows, *, metric: str = 'frechet_digits'
) -> None:
  """Draws `metric` over `nfe` on log-log axes as a PNG.

  The teacher is dashed, and its best row is a thin horizontal line.

  Args:
    path: of the PNG.
    rows: with `model`, `sampler`, `nfe`, perhaps `options`, and `metric`.
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
  lines = dict.fromkeys(_how(row) for row in rows)
  markers = dict.fromkeys(way for _, way in lines)
  shape = dict(zip(markers, MARKERS * len(markers), strict=False))
  for model, way in lines:
    found = [row for row in rows if _how(row) == (model, way)]
    found = sorted(found, key=lambda row: row['nfe'])
    ax.plot(
      [r['nfe'] for r in found],
      [r[metric] for r in found],
      color=colour[model],
      linestyle='--' if model == 'teacher' else '-',
      linewidth=2,
      marker=shape[way],
      markersize=7,
      markeredgecolor='white',
      markeredgewidth=1,
      label=f'{model}, {way}',
      clip_on=False,
      zorder=3,
    )
    for row in found:
      _value(ax, row, metric, colour[model])


def _how(row: Mapping[str, Any]) -> tuple[str, str]:
  """Its model, and in which way that was drawn: 'gamma, gamma=0.5'."""
  options = f', {row["options"]}' if 'options' in row else ''
  return row['model'], row['sampler'].replace('_', ' ') + options


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


def log_axes(ax: Axes, nfes: Iterable[float], metric: str) -> None:
  """Logarithmic axes of NFE and a metric, with plain numbers at each NFE."""
  ax.set(xscale='log', yscale='log')
  ax.set_xticks(_apart(sorted(set(nfes))))
  ax.xaxis.set_major_formatter(FuncFormatter(lambda nfe, _: f'{nfe:.0f}'))
  ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
  for axis in (ax.xaxis, ax.yaxis):
    axis.set_minor_locator(NullLocator())
  ax.set_xlabel('NFE (network evaluations per image)', color=INK, fontsize=11)
  ax.set_ylabel(name_of(metric), color=INK, fontsize=11)
  ax.tick_params(length=0, colors=MUTED, labelsize=10, pad=6)
  ax.grid(color=FAINT, linewidth=0.8)
  ax.set_axisbelow(True)
  for side, spine in ax.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(FAINT)


def name_of(metric: str) -> str:
  """'frechet_digits' -> 'Fréchet distance (digits)'."""
  if metric.startswith(FRECHET):
    return f'Fréchet distance ({metric.removeprefix(FRECHET)})'
  return metric.replace('_', ' ')


def _apart(nfes: Sequence[float]) -> list[float]:
  """Those whose numbers do not touch under the axis."""
  kept = list(nfes[:1])
  for nfe in nfes[1:]:
    if nfe > APART * kept[-1]:
      kept.append(nfe)
  return kept
