"""The bitmaps of an emoji font, and the characters that they stand for.

A CBDT font such as Noto Color Emoji has a PNG per glyph. The characters of a
glyph are those that `cmap` maps to it, and those whose glyphs a ligature (GSUB)
replaces by it: a flag is a ligature of two letters, a skin tone one of a figure
and a tone.

Source: OpenType, https://learn.microsoft.com/typography/opentype/spec/cbdt.
"""

import collections
import dataclasses
import io
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from fontTools.ttLib import TTFont, TTLibError

from flowdistill.datasets.files import check_size
from flowdistill.files.regular import open_regular

INSTALL = "'apt-get install fonts-noto-color-emoji' on Debian and Ubuntu"
VARIATION = 0xFE0F  # asks for the emoji, not the text: no part of what it is
PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0x110000))
PNG = b'\x89PNG\r\n\x1a\n'
OTHERS = {'COLR': 'vectors (COLR)', 'SVG ': 'SVG', 'sbix': 'bitmaps (sbix)'}
LIGATURE = 4  # a type of lookup
BROKEN = (  # what fontTools raises for damaged files
  TTLibError,
  OSError,
  EOFError,
  struct.error,
  LookupError,
  ValueError,
  TypeError,
  AttributeError,
  AssertionError,
  ArithmeticError,
  ImportError,  # WOFF2 needs a package
  MemoryError,
)
Characters = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Bitmap:
  """A glyph that is a picture.

  Attributes:
    characters: the sequences of code points that are drawn as this glyph,
      sorted, without U+FE0F; private ones only if there are no others.
    png: the bytes of the picture.
  """

  characters: tuple[Characters, ...]
  png: bytes


def read_bitmaps(path: str) -> list[Bitmap]:
  """The pictures of a font, sorted by their characters.

  Those that no sequence of characters is drawn as are left out. Of several
  sizes it is the largest.

  Raises:
    ValueError: if the file cannot be read, is no such font, or is cut.
  """
  try:
    with open_regular(path) as file:
      check_size(size := os.fstat(file.fileno()).st_size)
      font = TTFont(io.BytesIO(file.read()), lazy=True)
      check_tables(font, size)
      glyphs = pngs_of(font)
      characters = characters_of(font)
  except FileNotFoundError as error:
    raise ValueError(
      f'path = {path!r} is not there: install the font by {INSTALL}, or name '
      'the file NotoColorEmoji.ttf'
    ) from error
  except BROKEN as error:
    reason = str(error) or type(error).__name__
    raise ValueError(
      f'path = {path!r} must be a Noto Color Emoji font with bitmaps (CBDT), '
      f'such as that of {INSTALL}: {reason}'
    ) from error
  found = [
    Bitmap(tidy(characters[name]), png)
    for name, png in glyphs
    if name in characters
  ]
  found = [bitmap for bitmap in found if bitmap.characters]
  if not found:
    raise ValueError(f'path = {path!r}: no character has a picture in it')
  return sorted(found, key=lambda bitmap: bitmap.characters)


def check_tables(font: TTFont, size: int) -> None:
  """Raises ValueError for a font of another kind, or one that is cut.

  Args:
    font: its tables need not be read.
    size: bytes of its file.
  """
  places = as_any(font.reader).tables.values()
  end = max(place.offset + place.length for place in places)
  if end > size:
    raise ValueError(f'it is cut, as it has {size:,} of {end:,} bytes')
  if 'CBDT' in font and 'CBLC' in font and 'cmap' in font:
    return
  kinds = [kind for table, kind in OTHERS.items() if table in font]
  raise ValueError(f'it has {" and ".join(kinds) or "no colour pictures"}')


def pngs_of(font: TTFont) -> list[tuple[str, bytes]]:
  """(glyph, PNG) of the largest size."""
  data, index = as_any(font['CBDT']), as_any(font['CBLC'])
  heights = [strike.bitmapSizeTable.ppemY for strike in index.strikes]
  largest = data.strikeData[heights.index(max(heights))]
  found = []
  for name, glyph in largest.items():
    png = bytes(getattr(glyph, 'imageData', b''))
    if not png.startswith(PNG):
      raise ValueError(f'the bitmap of the glyph {name!r} is not a PNG')
    found.append((name, png))
  return found


def characters_of(font: TTFont) -> dict[str, set[Characters]]:
  """Glyph -> the sequences of characters that are drawn as it."""
  known = collections.defaultdict(set)
  for code, name in (font.getBestCmap() or {}).items():
    known[name].add((code,))
  if 'GSUB' in font:
    for ligatures in ligature_lookups(as_any(font['GSUB']).table):
      spelt = {
        (glyph, sequence)
        for parts, glyph in ligatures
        for sequence in spellings(parts, known)
      }
      for glyph, sequence in spelt:
        known[glyph].add(sequence)
  return dict(known)


def ligature_lookups(table: Any) -> Iterator[list[tuple[list[str], str]]]:
  """Of each lookup with ligatures: the glyphs of each, and what they become."""
  for lookup in table.LookupList.Lookup if table.LookupList else ():
    subtables = [getattr(s, 'ExtSubTable', s) for s in lookup.SubTable]
    yield [
      ([first, *ligature.Component], ligature.LigGlyph)
      for subtable in subtables
      if subtable.LookupType == LIGATURE
      for first, ligatures in subtable.ligatures.items()
      for ligature in ligatures
    ]


def spellings(
  parts: list[str], known: Mapping[str, set[Characters]]
) -> Iterator[Characters]:
  """The characters of a row of glyphs, each with its first sequence."""
  if all(known.get(part) for part in parts):
    yield tuple(code for part in parts for code in min(known[part]))


def tidy(found: set[Characters]) -> tuple[Characters, ...]:
  """Sorted, without U+FE0F; private code points only if there is no other."""
  plain = {tuple(c for c in sequence if c != VARIATION) for sequence in found}
  plain.discard(())
  public = {s for s in plain if not any(c in r for c in s for r in PRIVATE)}
  return tuple(sorted(public or plain))


def as_any(table: Any) -> Any:
  """A table of a font, whose type fontTools does not tell."""
  return table
