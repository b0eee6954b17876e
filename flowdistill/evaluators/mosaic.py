"""Images of several models side by side, a row per number of evaluations."""

import dataclasses
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowdistill.evaluators.canvas import DPI, MUTED, colours, new_figure, save
from flowdistill.evaluators.sweep import SweepEntry, grid_cells

SMALLEST, LARGEST = 64, 128  # height of an image in the picture, in pixels
GAP, HEAD, EDGE, LETTER = 6, 110, 30, 13.5  # pixels, DPI of them an inch
SMALL_LETTER, LINES = 6.4, 4  # of headings that are too long for one line
LONGEST = 26  # letters of a row's title; a longer one is in several lines
SIZE, WRAPPED_SIZE, WRAPPED_LETTER = 8.5, 5.5, 10  # of titles; the last, pixels


def side_by_side(
  path: pathlib.Path,
  samples: Sequence[tuple[SweepEntry, np.ndarray]],
  *,
  headings: Sequence[str] = (),
) -> None:
  """Draws a panel per model as a PNG; images of one NFE are level.

  Where no two models are level, all rows are in one panel.

  Small images are enlarged by a whole factor, pixel by pixel.

  Args:
    path: of the PNG.
    samples: images [n, h, w, 1 or 3] in [-1, 1] of each entry of a sweep, all
      of one shape.
    headings: of the n columns.
  """
  strips = [_strip(_resize(np.clip((x + 1) / 2, 0, 1))) for _, x in samples]
  h, w, _ = strips[0].shape
  lines = _lines([entry for entry, _ in samples], h)
  lefts, width = _lefts(lines, w)
  page = np.ones((max(line.top for line in lines) + h + EDGE, width, 3))
  for line, strip in zip(lines, strips, strict=True):
    page[line.top : line.top + h, lefts[line.panel] :][:, :w] = strip
  figure, ax = _show(page)
  for line in lines:
    left, middle = lefts[line.panel], line.top + (h - GAP) / 2
    size = WRAPPED_SIZE if '\n' in line.title else SIZE
    style = {'ha': 'right', 'color': line.colour, 'size': size}
    _write(ax, left - 18, middle, line.title, **style)
  for panel, left in lefts.items():
    style = {'size': 12, 'weight': 'bold', 'color': colours(lefts)[panel]}
    _write(ax, left, 34, panel, **style)
    _write_headings(ax, left, w / len(samples[0][1]), headings)
  save(figure, path)


@dataclasses.dataclass(frozen=True)
class Line:
  """A row of images in a picture.

  Attributes:
    panel: the model, or '' if there is one panel for several.
    title: of the row, in one or more lines.
    colour: of its title.
    top: its upper edge, in pixels.
  """

  panel: str
  title: str
  colour: str
  top: int


def _lines(entries: Sequence[SweepEntry], h: int) -> list[Line]:
  """One panel for several models where no two of them are level."""
  levels = [level for level, _ in grid_cells(entries)]
  models = dict.fromkeys(entry.model for entry in entries)
  colour = colours(models)
  tops = [HEAD + level * h for level in levels]
  if len(models) == 1 or len({*levels}) < len(levels):
    return [
      Line(e.model, _wrapped(str(e), LONGEST), MUTED, top)
      for e, top in zip(entries, tops, strict=True)
    ]
  return [
    Line('', _wrapped(f'{e.model}, {e}', LONGEST), colour[e.model], top)
    for e, top in zip(entries, tops, strict=True)
  ]


def strips(
  path: pathlib.Path, rows: np.ndarray, *, headings: Sequence[str] = ()
) -> None:
  """Draws rows of images as a PNG.

  Args:
    path: of the PNG.
    rows: [rows, n, h, w, 1 or 3] in [-1, 1].
    headings: of the n columns.
  """
  lines = [_strip(_resize(np.clip((x + 1) / 2, 0, 1))) for x in rows]
  h, w, _ = lines[0].shape
  page = np.ones((HEAD // 2 + h * len(lines), w + 2 * EDGE, 3))
  for row, strip in enumerate(lines):
    top = HEAD // 2 + row * h
    page[top : top + h, EDGE : EDGE + w] = strip
  figure, ax = _show(page)
  for k, heading in enumerate(headings):
    pitch = w / rows.shape[1]
    middle = EDGE + k * pitch + (pitch - GAP) / 2
    _write(ax, middle, HEAD // 4, heading, ha='center', size=6)
  save(figure, path)


def _resize(x: np.ndarray) -> np.ndarray:
  """Repeats the pixels of small images, averages those of large ones."""
  larger = -(-SMALLEST // x.shape[1])
  x = x.repeat(larger, axis=1).repeat(larger, axis=2)
  f = max(1, x.shape[1] // LARGEST)
  n, h, w, c = x.shape
  x = x[:, : h // f * f, : w // f * f]
  return x.reshape(n, h // f, f, w // f, f, c).mean(axis=(2, 4))


def _strip(x: np.ndarray) -> np.ndarray:
  """Images [n, h, w, c] in a row, each with a white gap right and below."""
  space = ((0, 0), (0, GAP), (0, GAP), (0, 0))
  row = np.concatenate(list(np.pad(x, space, constant_values=1)), axis=1)
  return np.broadcast_to(row, (*row.shape[:2], 3))


def _lefts(lines: Sequence[Line], w: int) -> tuple[dict[str, int], int]:
  """Panel -> left edge of its images, after their titles; and the width."""
  lefts, end = {}, 0
  for panel in dict.fromkeys(line.panel for line in lines):
    titles = [each.title for each in lines if each.panel == panel]
    lefts[panel] = end + 2 * EDGE + int(max(map(_pixels, titles)))
    end = lefts[panel] + w
  return lefts, end + EDGE


def _pixels(title: str) -> float:
  """The width of a title; of several lines, the letters are small."""
  first, *more = map(len, title.split('\n'))
  return max(first, *more) * WRAPPED_LETTER if more else first * LETTER


def _show(page: np.ndarray) -> tuple[Figure, Axes]:
  """The page and its axes, in pixels, y downwards."""
  height, width, _ = page.shape
  figure = new_figure(width / DPI, height / DPI)
  ax = figure.add_axes((0, 0, 1, 1))
  ax.imshow(page, interpolation='nearest', extent=(0, width, height, 0))
  ax.axis('off')
  return figure, ax


def _write_headings(
  ax: Axes, left: int, pitch: float, headings: Sequence[str]
) -> None:
  wide = any(len(heading) * LETTER > pitch for heading in headings)
  for k, heading in enumerate(headings):
    middle = left + k * pitch + (pitch - GAP) / 2
    if wide:
      text = _wrapped(heading, int(pitch / SMALL_LETTER))
      _write(ax, middle, HEAD - 6, text, ha='center', va='bottom', size=4)
    else:
      _write(ax, middle, HEAD - 24, heading, ha='center')


def _wrapped(text: str, letters: int) -> str:
  """A text in at most four lines, its end left out if it is longer."""
  lines = textwrap.wrap(text, max(letters, 3), max_lines=LINES, placeholder='…')
  return '\n'.join(lines)


def _write(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
  style = {'size': 8.5, 'color': MUTED, 'va': 'center', **style}
  ax.text(x, y, text, parse_math=False, **style)
