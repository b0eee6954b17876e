"""All emoji of a font as pixels, with their names and figures.

Each is centred in a square and reduced by Pillow's bicubic filter, which is
antialiased, on white or on premultiplied colours.
"""

import dataclasses
import functools
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from flowdistill.datasets.catalogue import counted
from flowdistill.datasets.emoji_figures import figure_of
from flowdistill.datasets.emoji_font import Bitmap, read_bitmaps
from flowdistill.datasets.emoji_names import Name, Names, read_names
from flowdistill.datasets.files import stamp_of
from flowdistill.datasets.folder import shortened
from flowdistill.datasets.images import BICUBIC, BROKEN, check_pixels
from flowdistill.flow.spec import LABEL, DataSpec

BACKGROUNDS = {'white': 'RGB', 'alpha': 'RGBA'}
CLASSES = ('group', 'subgroup')


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """All emoji of a font.

  Attributes:
    pixels: uint8 [n, size, size, 3 or 4], read-only.
    names: of each.
    figures: of each.
    order: (group, subgroup) in the order of the file of names.
  """

  pixels: np.ndarray
  names: Sequence[Name]
  figures: Sequence[str]
  order: Sequence[tuple[str, str]]

  def conditions(
    self, classes: str | None
  ) -> tuple[DataSpec, dict[str, np.ndarray]]:
    """The spec, and the conditions of all emoji, [n, ...]."""
    arrays, known = {}, ()
    if classes is not None:
      mine = [getattr(name, classes) for name in self.names]
      column = [pair[CLASSES.index(classes)] for pair in self.order]
      known = tuple(c for c in dict.fromkeys([*column, *mine]) if c in {*mine})
      arrays[LABEL] = np.asarray([known.index(c) for c in mine], np.int32)
    spec = DataSpec.labelled(self.pixels.shape[1:], len(known), known)
    return spec, arrays

  def summary(self, path: str, classes: Sequence[str]) -> str:
    """What is in a font, in a line."""
    figures = counted(len({*self.figures}), 'figure')
    text = f'{path!r}: {counted(len(self.names), "picture")} of {figures}'
    if not classes:
      return text
    return f'{text}; {counted(len(classes), "class")}: {shortened(classes)}'


def read_table(
  path: str, names: str | None, size: int, background: str
) -> Table:
  """Read once; and again if a file has changed.

  Args:
    path: of the font.
    names: of an emoji-test.txt, or None.
    size: side of the square in pixels.
    background: one of `BACKGROUNDS`.

  Raises:
    ValueError: if a file is not there, is of another kind or damaged.
  """
  stamps = tuple(stamp_of(pathlib.Path(p)) for p in (path, names) if p)
  return _read(path, names, size, background, stamps)


@functools.lru_cache(maxsize=2)
def _read(
  path: str, names: str | None, size: int, background: str, stamps: Any
) -> Table:
  del stamps
  known = Names({}) if names is None else read_names(names)
  bitmaps = read_bitmaps(path)
  try:
    squares = [square(bitmap, size, background) for bitmap in bitmaps]
  except BROKEN as error:
    raise ValueError(f'path = {path!r}: a picture in it: {error}') from error
  pixels = np.stack(squares)
  pixels.flags.writeable = False
  order = dict.fromkeys((n.group, n.subgroup) for n in known.listed.values())
  return Table(
    pixels,
    [known.of(bitmap.characters) for bitmap in bitmaps],
    [figure_of(bitmap.characters) for bitmap in bitmaps],
    [*order],
  )


def square(bitmap: Bitmap, size: int, background: str) -> np.ndarray:
  """The picture in the centre of a square, uint8 [size, size, 3 or 4]."""
  with PIL.Image.open(io.BytesIO(bitmap.png), formats=('PNG',)) as image:
    check_pixels(image)
    picture = image.convert('RGBA')
  side = max(picture.size)
  colour = 'white' if background == 'white' else (0, 0, 0, 0)
  page = PIL.Image.new('RGBA', (side, side), colour)
  left, top = ((side - length) // 2 for length in picture.size)
  page.alpha_composite(picture, (left, top))
  page = page.convert(BACKGROUNDS[background])
  return np.asarray(page.resize((size, size), BICUBIC))
