"""A picture of several methods: a metric over the number of evaluations.

Every method is a line with its name at the end; names are moved apart.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from flowdistill.evaluators.canvas import (
  COLOURS,
  MUTED,
  log_axes,
  new_figure,
  save,
)
from flowdistill.figures.columns import MARK
from flowdistill.figures.methods import Method, Point
from flowdistill.figures.spread import spread

PALETTE = (
  '#d9480f',
  '#2b8a3e',
  '#862e9c',
  '#0b7285',
  '#c2255c',
  '#f08c00',
  '#5f3dc4',
  '#74b816',
  '#a0522d',
  '#15aabf',
  '#f783ac',
  '#868e96',
  '#212529',
  '#aba000',
)
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
# Inches: the axes, their margins, the distance of names, the width of a letter.
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 6.2, 4.2, 0.8, 0.6, 0.2
PITCH, LETTER, TIE, SPACE, NOTE = 0.22, 0.085, 0.4, 0.5, 0.25
SHORT = f'{MARK} The feature network was in a training loss of this method.'


Label = tuple[Point, str, str]
"""The end of a line, the text beside it, and its colour."""


def comparison(
  path: pathlib.Path, methods: Sequence[Method], *, metric: str
) -> None:
  """Draws a PNG: a line per method, with error bars over the range of seeds.

  Teachers are dashed, and their best is a thin horizontal line. On the right
  and at the top the picture ends with the students: further points of teachers
  are in the table alone. If a student ends earlier, its name says so. A name is
  marked if the feature network was in a training loss.

  Args:
    path: of the PNG.
    methods: at least one.
    metric: its key in the rows; lower is better.
  """
  shown = _within_students(methods)
  lines = list(zip(shown, _styles(shown), strict=True))
  last = max(m.points[-1].nfe for m in shown)
  names = [(m.points[-1], _name(m, last), colour) for m, (colour, _) in lines]
  names += _teachers_best(methods, last)
  note = any(MARK in name for _, name, _ in names)
  figure, ax, gap = _page([name for _, name, _ in names], note)
  log_axes(ax, {p.nfe for m in shown for p in m.points}, metric)
  if min(p.low for m in methods for p in m.points) <= 0:
    ax.set_yscale('linear')
  for method, (colour, marker) in lines:
    _line(ax, method, colour, marker)
  for point, _, _ in names[len(lines) :]:
    ax.axhline(point.value, color=COLOURS[0], linewidth=0.8, zorder=2)
  ax.margins(x=0.03, y=0.05)
  ax.autoscale_view()  # before names are placed by the limits of the axes
  _end_above_students(ax, shown)
  _write(ax, names, gap)
  save(figure, path)


def three_digits(value: float) -> str:
  """Three significant digits: '0.994', '1.20', '26.2', '131'."""
  return f'{value:#.3g}'.removesuffix('.')


def _name(method: Method, last: float) -> str:
  """'ayf_emd, 1.15', and its last NFE if that is not the last of all."""
  end = method.points[-1]
  where = '' if end.nfe == last else f' at {end.nfe:.4g} NFE'
  mark = MARK if any(p.trained_on for p in method.points) else ''
  return f'{method.name}{mark}, {three_digits(end.value)}{where}'


def _end_above_students(ax: Axes, shown: Sequence[Method]) -> None:
  """Limits that show all of the students, and the ends of teachers' lines."""
  students = [p for m in shown if not m.teacher for p in m.points]
  if not students or ax.get_yscale() != 'log':
    return
  ends = [m.points[-1].high for m in shown]
  best = [p.low for m in shown for p in m.points]
  ax.set_ylim(min(best) / 1.1, 1.1 * max([*ends, *(p.high for p in students)]))
  ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))


def _page(names: Sequence[str], note: bool) -> tuple[Figure, Axes, float]:
  """A figure with room for names on the right, its axes, and the gap of names.

  With `note` it says below them what the mark means.

  The gap, from one name to the next, is a fraction of the axes' height.
  """
  height = max(HEIGHT, PITCH * len(names))
  right = SPACE + LETTER * max(map(len, names))
  bottom = BOTTOM + (NOTE if note else 0)
  whole = LEFT + WIDTH + right, bottom + height + TOP
  figure = new_figure(*whole)
  ax = figure.add_axes(
    (LEFT / whole[0], bottom / whole[1], WIDTH / whole[0], height / whole[1])
  )
  if note:
    figure.text(LEFT / whole[0], 0.1 / whole[1], SHORT, fontsize=9, color=MUTED)
  return figure, ax, PITCH / height


def _within_students(methods: Sequence[Method]) -> list[Method]:
  """Drops the points of teachers at more NFE than any student has."""
  students = [p.nfe for m in methods if not m.teacher for p in m.points]
  if not students:
    return list(methods)
  within = [
    dataclasses.replace(
      m, points=tuple(p for p in m.points if p.nfe <= max(students))
    )
    for m in methods
  ]
  return [method for method in within if method.points]


def _styles(methods: Sequence[Method]) -> list[tuple[str, str]]:
  """(colour, marker) of each; all teachers have the same colour."""
  markers = itertools.cycle(MARKERS)
  palette = itertools.cycle(PALETTE)
  return [
    (COLOURS[0] if method.teacher else next(palette), next(markers))
    for method in methods
  ]


def _line(ax: Axes, method: Method, colour: str, marker: str) -> None:
  nfe, value, low, high = np.transpose(
    [(p.nfe, p.value, p.low, p.high) for p in method.points]
  )
  ax.errorbar(
    nfe,
    value,
    yerr=(value - low, high - value),
    color=colour,
    linestyle='--' if method.teacher else '-',
    linewidth=1.8,
    elinewidth=0.9,
    capsize=2.5,
    marker=marker,
    markersize=6.5,
    markeredgecolor='white',
    markeredgewidth=0.8,
    zorder=3,
  )


def _teachers_best(methods: Sequence[Method], nfe: float) -> list[Label]:
  """The label of the best point, at the NFE where the picture ends."""
  points = [p for method in methods if method.teacher for p in method.points]
  if not points:
    return []
  best = min(points, key=lambda point: point.value)
  mark = MARK if best.trained_on else ''
  text = (
    f"teacher's best{mark}, {three_digits(best.value)} at {best.nfe:.4g} NFE"
  )
  return [(dataclasses.replace(best, nfe=nfe), text, COLOURS[0])]


def _write(ax: Axes, names: Sequence[Label], gap: float) -> None:
  """Writes names beside the axes, at least `gap` apart, tied to their lines."""
  to_axes = ax.transData + ax.transAxes.inverted()
  wanted = [to_axes.transform((p.nfe, p.value))[1] for p, _, _ in names]
  last = max(point.nfe for point, _, _ in names)
  for (point, name, colour), y in zip(names, spread(wanted, gap), strict=True):
    width = 0.8 if point.nfe == last else 0.0
    tie = {'arrowstyle': '-', 'color': colour, 'linewidth': width}
    ax.annotate(
      name,
      (point.nfe, point.value),
      (1 + TIE / WIDTH, y),
      textcoords='axes fraction',
      va='center',
      fontsize=10,
      color=colour,
      arrowprops={**tie, 'shrinkA': 1, 'shrinkB': 5, 'relpos': (0, 0.5)},
    )
