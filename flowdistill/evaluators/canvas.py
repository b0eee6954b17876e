"""Figures without pyplot: no global state; files are replaced atomically."""

import pathlib
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from flowdistill.evaluators.signature import NOWHERE
from flowdistill.files.atomic import replacing

DPI = 200
INK, MUTED, FAINT = '#1f2933', '#616e7c', '#e4e7eb'
COLOURS = ('#3b5b92', '#e8590c', '#2b8a3e', '#862e9c', '#0b7285')
FIRST = ('teacher', 'student')  # roles with the first colours
FRECHET = 'frechet_'
APART = 1.15  # ratio of two NFEs whose numbers do not touch


def new_figure(width: float, height: float) -> Figure:
  """A white figure of this size in inches, at 200 pixels an inch."""
  figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
  FigureCanvasAgg(figure)
  return figure


def save(figure: Figure, path: pathlib.Path) -> None:
  """Writes a PNG atomically: readers see the old file or the whole new one.

  Below `NOWHERE` nothing is written.
  """
  if NOWHERE in path.parents:
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as file:
    figure.savefig(file, format='png', dpi=DPI)


def colours(roles: Iterable[str]) -> dict[str, str]:
  """Role -> colour; teacher and student have the same ones in all pictures."""
  order = dict.fromkeys([*FIRST, *roles])
  return {r: COLOURS[i % len(COLOURS)] for i, r in enumerate(order)}


def log_axes(ax: Axes, nfes: Iterable[float], metric: str) -> None:
  """Logarithmic axes of NFE and a metric, with a plain number at each NFE."""
  ax.set(xscale='log', yscale='log')
  ax.set_xticks(_legible(sorted(set(nfes))))
  ax.xaxis.set_major_formatter(FuncFormatter(lambda nfe, _: f'{nfe:.0f}'))
  ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
  for axis in (ax.xaxis, ax.yaxis):
    axis.set_minor_locator(NullLocator())
  ax.set_xlabel('NFE (network evaluations per image)', color=INK, fontsize=11)
  ax.set_ylabel(metric_title(metric), color=INK, fontsize=11)
  ax.tick_params(length=0, colors=MUTED, labelsize=10, pad=6)
  ax.grid(color=FAINT, linewidth=0.8)
  ax.set_axisbelow(True)
  for side, spine in ax.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(FAINT)


def metric_title(metric: str) -> str:
  """'frechet_digits' -> 'Fréchet distance (digits)'."""
  if metric.startswith(FRECHET):
    return f'Fréchet distance ({metric.removeprefix(FRECHET)})'
  return metric.replace('_', ' ')


def _legible(nfes: Sequence[float]) -> list[float]:
  """Those whose numbers do not touch under the axis."""
  ticks = list(nfes[:1])
  for nfe in nfes[1:]:
    if nfe > APART * ticks[-1]:
      ticks.append(nfe)
  return ticks
