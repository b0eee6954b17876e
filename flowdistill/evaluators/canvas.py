"""Figures without pyplot: nothing global is touched, files appear whole."""

import os
import pathlib
from collections.abc import Iterable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 200
INK, MUTED, FAINT = '#1f2933', '#616e7c', '#e4e7eb'
COLOURS = ('#3b5b92', '#e8590c', '#2b8a3e', '#862e9c', '#0b7285')
FIRST = ('teacher', 'student')


def new_figure(width: float, height: float) -> Figure:
  """A white figure of this size in inches, at 200 pixels an inch."""
  figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
  FigureCanvasAgg(figure)
  return figure


def save(figure: Figure, path: pathlib.Path) -> None:
  """Writes a PNG; whoever looks finds the old file or the whole new one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{os.getpid()}')
  figure.savefig(partial, format='png', dpi=DPI)
  os.replace(partial, path)


def colours(roles: Iterable[str]) -> dict[str, str]:
  """Role -> colour, the same in every picture for teacher and student."""
  order = dict.fromkeys([*FIRST, *roles])
  return {r: COLOURS[i % len(COLOURS)] for i, r in enumerate(order)}
