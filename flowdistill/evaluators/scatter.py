"""Points of several models over the data, a panel per sweep entry."""

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
from flowdistill.evaluators.sweep import SweepEntry, grid_cells

PANEL, HEAD, LEFT, GAP = 1.65, 0.42, 0.35, 0.1  # inches
GREY = '#cbd2d9'


def scatter(
  path: pathlib.Path,
  samples: Sequence[tuple[SweepEntry, np.ndarray]],
  data: np.ndarray,
) -> None:
  """Draws a row of panels per model as a PNG, the data in grey behind.

  Args:
    path: of the PNG.
    samples: points [n, 2] of each entry of a sweep.
    data: real points [m, 2].
  """
  cells = grid_cells([entry for entry, _ in samples])
  colour = colours(entry.model for entry, _ in samples)
  columns, rows = np.max(cells, axis=0) + 1
  width = LEFT + columns * (PANEL + GAP)
  height = rows * (HEAD + PANEL) + GAP
  figure = new_figure(width, height)
  for (column, row), (entry, x) in zip(cells, samples, strict=True):
    left = LEFT + column * (PANEL + GAP)
    bottom = height - (row + 1) * (HEAD + PANEL)
    ax = figure.add_axes(
      (left / width, bottom / height, PANEL / width, PANEL / height)
    )
    _panel(ax, x, data, colour[entry.model])
    title = str(entry).replace(' (', '\n(')  # options on their own line
    ax.set_title(title, fontsize=9, color=MUTED, pad=4)
  for row, role in enumerate(
    dict.fromkeys(entry.model for entry, _ in samples)
  ):
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
