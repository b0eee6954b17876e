"""Emoji: the bitmaps of a Noto Color Emoji font, with names and groups.

The font of Debian's fonts-noto-color-emoji 2.042 has 3 926 pictures.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.datasets.captioned import Captioned, with_text
from flowdistill.datasets.emoji_table import (
  BACKGROUNDS,
  CLASSES,
  read_table,
)
from flowdistill.datasets.folder import say
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.source import Batch
from flowdistill.datasets.split import split_places
from flowdistill.datasets.texts import Text
from flowdistill.files.paths import expand
from flowdistill.flow.spec import DataSpec

FONT = '/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf'
NAMES = '/usr/share/unicode/emoji/emoji-test.txt'
LARGEST = 256


def emoji(
  *,
  path: str = FONT,
  names: str | None = NAMES,
  size: int = 32,
  background: str = 'white',
  classes: str | None = 'group',
  text: Text | None = None,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
) -> 'Emoji | Captioned':
  """Emoji [size, size, 3 or 4] in [-1, 1], with their Unicode names.

  Args:
    path: of the font, which must have bitmaps (CBDT).
    names: emoji-test.txt of Unicode; None takes the names of characters that
      Python knows, which have no groups.
    size: side of the square in pixels, in 1 ... 256.
    background: 'white', or 'alpha' for a fourth channel; a pixel that is
      transparent is then -1 in all four.
    classes: what the label is, 'group' (such as Food & Drink) or 'subgroup'
      (such as food-fruit); None for no label.
    text: what makes conditions of the names (see `texts.py`); None for no such
      conditions.
    split: 'all', 'train' or 'validation', by a hash of the figure, so that its
      skin tones and genders stay together (see `emoji_figures.py`).
    validation: share of the figures that are held out, in [0, 1].
    held_out: a file with the figures that are held out, such as 1F9D1-1F692,
      one per line, which replaces the hash.

  Raises:
    ValueError: if a file is not there, is of another kind or damaged, or an
      option is out of range.
  """
  check(size, background, classes)
  if classes is not None and names is None:
    raise ValueError(
      f'classes = {classes!r} needs names, a file emoji-test.txt; or set '
      'classes = none'
    )
  path = path and str(expand(path, f'path = {path!r}'))
  names = names and str(expand(names, f'names = {names!r}'))
  table = read_table(path, names, size, background)
  spec, conditions = table.conditions(classes)
  say(table.summary(path, spec.classes))
  figures = sorted({*table.figures})
  kept = split_places(figures, split, validation=validation, held_out=held_out)
  number = {figures[place]: int(place) for place in kept}
  places = [i for i, figure in enumerate(table.figures) if figure in number]
  found = Emoji(
    spec,
    table.pixels[places],
    {name: array[places] for name, array in conditions.items()},
    tuple(table.names[i].name for i in places),
    np.asarray([number[table.figures[i]] for i in places], np.int32),
  )
  return with_text(found, text)


def check(size: int, background: str, classes: str | None) -> None:
  """Raises ValueError for an option that is out of range."""
  if not 1 <= size <= LARGEST:
    raise ValueError(f'size = {size} must lie in 1 ... {LARGEST}')
  if background not in BACKGROUNDS:
    choices = ' or '.join(map(repr, BACKGROUNDS))
    raise ValueError(f'background = {background!r} must be {choices}')
  if classes not in (None, *CLASSES):
    choices = ', '.join(map(repr, CLASSES))
    raise ValueError(f'classes = {classes!r} must be {choices} or none')


@dataclasses.dataclass(frozen=True, eq=False)
class Emoji:
  """Emoji with random access.

  Attributes:
    spec: of an example.
    pixels: uint8 [n, size, size, 3 or 4].
    arrays: every condition of the spec, [n, *its shape].
    captions: the names of the n emoji.
    figures: int32 [n]; emoji of one number show one figure.
  """

  spec: DataSpec
  pixels: np.ndarray
  arrays: Mapping[str, np.ndarray]
  captions: tuple[str, ...]
  figures: np.ndarray

  def __len__(self) -> int:
    return len(self.pixels)

  def __getitem__(self, index: Any) -> Batch:
    """One example for an int, a batch of them for an array of ints [b]."""
    return {'x0': to_unit(self.pixels[index]), **self.conditions(index)}

  def conditions(self, index: Any) -> Batch:
    """The conditions of the examples `index` [b]."""
    return {name: array[index] for name, array in self.arrays.items()}
