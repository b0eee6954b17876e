"""A CBDT font of a few glyphs, and an emoji-test.txt that names them."""

import io

from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import newTable
from fontTools.ttLib.tables import C_B_D_T_, E_B_L_C_, BitmapGlyphMetrics
from PIL import Image

WAVE, LIGHT, DARK, JOIN = 0x1F44B, 0x1F3FB, 0x1F3FF, 0x200D
MAN, WOMAN, ENGINE, A, B = 0x1F468, 0x1F469, 0x1F692, 0x1F1E6, 0x1F1E7
CHARACTERS = {
  'wave': WAVE,
  'light': LIGHT,
  'dark': DARK,
  'joiner': JOIN,
  'man': MAN,
  'woman': WOMAN,
  'engine': ENGINE,
  'letter_a': A,
  'letter_b': B,
  'selector': 0xFE0F,
  'pepper': 0x1F336,
}
LIGATURES = """
feature ccmp {
  sub wave light by wave_light;
  sub wave dark by wave_dark;
  sub man joiner engine by fireman;
  sub engine joiner man by fireman;
  sub woman joiner engine by firewoman;
  sub letter_a letter_b by flag;
  sub engine light by private;
} ccmp;
"""
LIGATED = ['wave_light', 'wave_dark', 'fireman', 'firewoman', 'flag', 'private']
BLANK = ('joiner', 'selector', 'letter_a', 'letter_b')
PICTURES = [n for n in [*CHARACTERS, *LIGATED] if n not in BLANK]
NAMES = """\
# emoji-test.txt

# group: People & Body

# subgroup: hand-fingers-open
1F44B            ; fully-qualified     # 👋 E0.6 waving hand
1F44B 1F3FB      ; fully-qualified     # 👋 E1.0 waving hand: light skin tone

# subgroup: person-role
1F468 200D 1F692 ; fully-qualified     # 👨 E4.0 man firefighter
1F468            ; fully-qualified     # 👨 E0.6 man
1F469            ; fully-qualified     # 👩 E0.6 woman

# group: Component

# subgroup: skin-tone
1F3FB            ; component           # 🏻 E1.0 light skin tone
1F3FF            ; component           # 🏿 E1.0 dark skin tone

# group: Food & Drink

# subgroup: food-vegetable
1F336 FE0F       ; fully-qualified     # 🌶 E0.7 hot pepper
1F336            ; unqualified         # 🌶 E0.7 hot pepper

# group: Flags

# subgroup: country-flag
1F1E6 1F1E7      ; fully-qualified     # 🏁 E2.0 flag: Land

#EOF
"""


def png(k, width=17, height=16):
  """A disc of a colour of its own on nothing, without a margin at the side."""
  image = Image.new('RGBA', (width, height), (0, 0, 0, 0))
  colour = (20 * k % 256, 90 * k % 256, 200 - 10 * k, 255)
  image.paste(colour, (0, 4, width, 12))
  data = io.BytesIO()
  image.save(data, format='PNG')
  return data.getvalue()


def font(pictures=PICTURES, features=LIGATURES, data=png, bitmaps=True):
  """The bytes of a font with a bitmap for each of the glyphs `pictures`."""
  order = ['.notdef', *CHARACTERS, *LIGATED]
  builder = FontBuilder(1000, isTTF=True)
  builder.setupGlyphOrder(order)
  builder.setupCharacterMap(
    {code: name for name, code in CHARACTERS.items()} | {0xFE4E5: 'private'}
  )
  builder.setupGlyf({name: TTGlyphPen(None).glyph() for name in order})
  builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
  builder.setupHorizontalHeader()
  builder.setupPost()
  if features:
    addOpenTypeFeaturesFromString(builder.font, features)
  if bitmaps:
    pictures = sorted(pictures, key=order.index)
    add_bitmaps(builder.font, {n: data(order.index(n)) for n in pictures})
  file = io.BytesIO()
  builder.save(file)
  return file.getvalue()


def add_bitmaps(font, pngs):
  """CBDT and CBLC tables with one strike of format 17."""
  data, index = newTable('CBDT'), newTable('CBLC')
  font['CBDT'], font['CBLC'] = data, index
  data.version = index.version = 3.0
  glyphs = {}
  for name, each in pngs.items():
    glyph = C_B_D_T_.cbdt_bitmap_format_17(b'', font)
    glyph.data, glyph.imageData = b'', each
    glyph.metrics = metrics(BitmapGlyphMetrics.SmallGlyphMetrics)
    glyphs[name] = glyph
  data.strikeData = [glyphs]
  strike = E_B_L_C_.Strike()
  table = strike.bitmapSizeTable = E_B_L_C_.BitmapSizeTable()
  table.ppemX = table.ppemY = 16
  table.bitDepth, table.flags, table.colorRef = 32, 1, 0
  table.hori, table.vert = line_metrics(), line_metrics()
  runs = E_B_L_C_.eblc_index_sub_table_1(b'', font)
  runs.indexFormat, runs.imageFormat = 1, 17
  runs.names = [*pngs]
  strike.indexSubTables = [runs]
  index.strikes = [strike]


def metrics(kind):
  found = kind()
  found.height, found.width, found.Advance = 16, 17, 17
  found.BearingX = found.BearingY = 0
  return found


def line_metrics():
  line = E_B_L_C_.SbitLineMetrics()
  names = 'ascender descender widthMax caretSlopeNumerator '
  names += 'caretSlopeDenominator caretOffset minOriginSB minAdvanceSB '
  for name in (names + 'maxBeforeBL minAfterBL pad1 pad2').split():
    setattr(line, name, 0)
  return line
