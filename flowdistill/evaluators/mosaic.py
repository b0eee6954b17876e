"""Images of several models side by side, a row per number of evaluations."""

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


def side_by_side(
  path: pathlib.Path,
  samples: Sequence[tuple[SweepEntry, np.ndarray]],
  *,
  headings: Sequence[str] = (),
) -> None:
  """Draws a panel per model as a PNG; images of one NFE are level.

  Small images are enlarged by a whole factor, pixel by pixel.

  Args:
    path: of the PNG.
    samples: images [n, h, w, 1 or 3] in [-1, 1] of each entry of a sweep, all
      of one shape.
    headings: of the n columns.
  """
  entries = [entry for entry, _ in samples]
  strips = [_strip(_resize(np.clip((x + 1) / 2, 0, 1))) for _, x in samples]
  h, w, _ = strips[0].shape
  lefts, width = _lefts(entries, w)
  tops = [HEAD + row * h for row, _ in grid_cells(entries)]
  page = np.ones((max(tops) + h + EDGE, width, 3))
  for entry, top, strip in zip(entries, tops, strips, strict=True):
    page[top : top + h, lefts[entry.model] :][:, :w] = strip
  figure, ax = _show(page)
  for entry, top in zip(entries, tops, strict=True):
    left, middle = lefts[entry.model], top + (h - GAP) / 2
    _write(ax, left - 18, middle, str(entry), ha='right')
  for role, left in lefts.items():
    style = {'size': 12, 'weight': 'bold', 'color': colours(lefts)[role]}
    _write(ax, left, 34, role, **style)
    _write_headings(ax, left, w / len(samples[0][1]), headings)
  save(figure, path)


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


def _lefts(entries: Sequence[SweepEntry], w: int) -> tuple[dict[str, int], int]:
  """Role -> left edge of its images, after their titles; and the page width."""
  lefts, end = {}, 0
  for role in dict.fromkeys(entry.model for entry in entries):
    longest = max(len(str(each)) for each in entries if each.model == role)
    lefts[role] = end + 2 * EDGE + int(longest * LETTER)
    end = lefts[role] + w
  return lefts, end + EDGE


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
