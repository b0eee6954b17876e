"""The bitmaps of a font, the characters that they stand for, and bad fonts."""

import io
import os
import random

import pytest
from datasets import tiny_font
from datasets.tiny_font import DARK, ENGINE, JOIN, LIGHT, MAN, WAVE, WOMAN, A, B
from fontTools.ttLib import TTFont

from flowdistill.datasets.emoji_font import read_bitmaps


@pytest.fixture
def read(tmp_path):
  def read(data):
    path = tmp_path / 'font.ttf'
    path.write_bytes(data)
    return read_bitmaps(str(path))

  return read


def spelt(bitmaps):
  return [bitmap.characters for bitmap in bitmaps]


def test_ligatures_are_the_characters_that_they_replace(read):
  """Also from right to left; no private code point beside another."""
  bitmaps = read(tiny_font.font())
  assert spelt(bitmaps) == sorted(
    [
      ((0x1F336,),),
      ((LIGHT,),),
      ((DARK,),),
      ((WAVE,),),
      ((WAVE, LIGHT),),
      ((WAVE, DARK),),
      ((MAN,),),
      ((WOMAN,),),
      ((ENGINE,),),
      ((MAN, JOIN, ENGINE), (ENGINE, JOIN, MAN)),
      ((WOMAN, JOIN, ENGINE),),
      ((A, B),),
      ((ENGINE, LIGHT),),
    ]
  )
  assert {bitmap.png for bitmap in bitmaps} == {
    tiny_font.png(1 + [*tiny_font.CHARACTERS, *tiny_font.LIGATED].index(name))
    for name in tiny_font.PICTURES
  }


def test_ligatures_of_ligatures_and_the_text_selector(read):
  """A second lookup sees what the first has made; U+FE0F is no part of it."""
  features = """
  lookup first { sub wave light by wave_light; } first;
  lookup second {
    sub wave_light joiner engine by fireman;
    sub pepper selector by firewoman;
  } second;
  feature ccmp { lookup first; lookup second; } ccmp;
  """
  pictures = ['fireman', 'firewoman']
  found = spelt(read(tiny_font.font(pictures, features)))
  assert found == [((0x1F336,),), ((WAVE, LIGHT, JOIN, ENGINE),)]


def test_without_ligatures_and_with_a_picture_that_nothing_is_drawn_as(read):
  font = tiny_font.font(['wave', 'flag'], features='')
  assert spelt(read(font)) == [((WAVE,),)]


def test_of_several_sizes_it_is_the_largest(read):
  font = TTFont(io.BytesIO(tiny_font.font(['wave', 'man'])))
  other = TTFont(io.BytesIO(tiny_font.font(['wave'])))
  other['CBLC'].strikes[0].bitmapSizeTable.ppemY = 99
  for table, rows in (('CBDT', 'strikeData'), ('CBLC', 'strikes')):
    getattr(font[table], rows).append(getattr(other[table], rows)[0])
  file = io.BytesIO()
  font.save(file)
  assert len(read(file.getvalue())) == 1


def test_a_font_that_is_not_there_says_how_to_install_it(tmp_path):
  with pytest.raises(ValueError, match='not there.*install fonts-noto-color'):
    read_bitmaps(str(tmp_path / 'none.ttf'))


def collection():
  return b'ttcf' + bytes(100)


BAD = {
  'of vectors': (
    lambda: tiny_font.font(bitmaps=False),
    r'must be a Noto Color Emoji font with bitmaps \(CBDT\).*it has no colour',
  ),
  'text': (lambda: b'no font at all', 'must be a Noto Color Emoji font'),
  'empty': (lambda: b'', 'must be a Noto Color Emoji font'),
  'collection': (collection, 'must be a Noto Color Emoji font'),
  'other bitmaps': (
    lambda: tiny_font.font(data=lambda k: b'\xff\xd8 a JPEG'),
    'the bitmap of the glyph .* is not a PNG',
  ),
  'no character': (lambda: tiny_font.font(['flag'], ''), 'no character has'),
}


@pytest.mark.parametrize('kind', BAD)
def test_other_fonts_are_refused(read, kind):
  make, message = BAD[kind]
  with pytest.raises(ValueError, match=message) as error:
    read(make())
  assert '\n' not in str(error.value)


def test_the_tables_of_another_kind_are_named(read):
  font = TTFont(io.BytesIO(tiny_font.font(bitmaps=False)))
  font['SVG '] = svg = tiny_font.newTable('SVG ')
  svg.docList = []
  file = io.BytesIO()
  font.save(file)
  with pytest.raises(ValueError, match=r'\(CBDT\).*: it has SVG'):
    read(file.getvalue())


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  for path in (tmp_path, tmp_path / 'pipe'):
    with pytest.raises(ValueError, match='Is a directory|not a regular'):
      read_bitmaps(str(path))


def test_a_font_is_cut_wherever_it_ends(read):
  whole = tiny_font.font().rstrip(b'\0')
  with pytest.raises(ValueError, match='it is cut, as it has'):
    read(whole[:-40])
  for end in range(0, len(whole) - 40, 97):
    with pytest.raises(ValueError, match='must be a Noto Color Emoji font'):
      read(whole[:end])


def test_cut_and_damaged_fonts_are_read_or_named(read):
  whole, rng, refused = tiny_font.font(), random.Random(0), 0
  for k in range(60):
    data = bytearray(whole)
    if k % 2:
      data = data[: rng.randrange(len(data))]
    for _ in range(rng.randrange(1, 20)):
      data[rng.randrange(len(data)) if data else 0 : 1] = b''
    for _ in range(rng.randrange(1, 20)):
      if data:
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
      read(bytes(data))
    except ValueError:
      refused += 1
  assert refused > 30
