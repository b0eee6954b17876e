"""Points of several models over the data, a panel per number of evaluations."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowdistill.evaluators.canvas import (
  FAINT,
  MUTED,
  colours,
  new_figure,
  save,
)
from flowdistill.evaluators.sweep import Cell, places

PANEL, HEAD, LEFT, GAP = 1.65, 0.42, 0.35, 0.1  # inches
GREY = '#cbd2d9'


def scatter(
  path: pathlib.Path,
  drawn: Sequence[tuple[Cell, np.ndarray]],
  data: np.ndarray,
) -> None:
  """Draws a row of panels per model as a PNG, the data grey behind them.

  Args:
    path: of the PNG.
    drawn: points [n, 2] of each entry of a sweep.
    data: real points [m, 2].
  """
  where = places([cell for cell, _ in drawn])
  colour = colours(cell.model for cell, _ in drawn)
  columns, rows = np.max(where, axis=0) + 1
  width = LEFT + columns * (PANEL + GAP)
  height = rows * (HEAD + PANEL) + GAP
  figure = new_figure(width, height)
  for (column, row), (cell, x) in zip(where, drawn, strict=True):
    left = LEFT + column * (PANEL + GAP)
    bottom = height - (row + 1) * (HEAD + PANEL)
    ax = figure.add_axes(
      (left / width, bottom / height, PANEL / width, PANEL / height)
    )
    _panel(ax, x, data, colour[cell.model])
    title = str(cell).replace(' (', '\n(')  # options have a line of their own
    ax.set_title(title, fontsize=9, color=MUTED, pad=4)
  for row, role in enumerate(dict.fromkeys(cell.model for cell, _ in drawn)):
    middle = height - (row + 1) * (HEAD + PANEL) + PANEL / 2
    _name(figure, LEFT / 2 / width, middle / height, role, colour[role])
  save(figure, path)


def _panel(ax: Axes, x: np.ndarray, data: np.ndarray, colour: str) -> None:
  ax.scatter(*data.T, s=2, color=GREY, linewidths=0)
  ax.scatter(*x.T, s=2, color=colour, linewidths=0, alpha=0.6)
  reach = 1.2 * np.abs(data).max()
  ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
  for spine in ax.spines.values():
    spine.set_color(FAINT)


def _name(figure: Figure, x: float, y: float, role: str, colour: str) -> None:
  style = {'size': 11, 'weight': 'bold', 'color': colour}
  figure.text(x, y, role, rotation=90, ha='center', va='center', **style)
