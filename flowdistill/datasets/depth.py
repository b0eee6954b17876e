"""Pictures of other than 8 bits per channel, as 8 bits.

Unsigned integers keep their upper 8 bits; floats are taken to lie in [0, 1].
Where neither the file nor its format says what white is, it is refused.
"""

import numpy as np
import PIL.Image

Image = PIL.Image.Image
LEVELS = {'L;2': 85, 'L;4': 17}  # Pillow scales these greys, not the clear one
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


def raw_mode(image: Image) -> str:
  """How the pixels are stored, before they are loaded; '' if unknown."""
  tiles = getattr(image, 'tile', None)
  raw = tiles[0][3] if tiles else ''
  return raw if isinstance(raw, str) else ''


def eight_bits(image: Image, raw: str) -> Image:
  """A picture with 8 bits per channel.

  Args:
    image: loaded.
    raw: its `raw_mode`.

  Raises:
    ValueError: if its range is not known, or its values lie outside.
  """
  clear = image.info.get('transparency')
  if image.mode.startswith('I;16'):
    return sixteen(image, clear)
  if image.mode == 'I' and image.format in ('PNG', 'PPM'):
    return sixteen(image, clear)
  if image.mode == 'I':
    raise ValueError(
      'its integers are signed or have 32 bits, and nothing says which of them '
      'is white; save it with 8 or 16 unsigned bits'
    )
  if image.mode == 'F':
    return floats(image)
  if raw.startswith('RGB;16') and clear is not None:
    raise ValueError(
      'its transparent colour has 16 bits per channel, of which only the upper '
      '8 are read; save it with an alpha channel'
    )
  if raw in LEVELS and isinstance(clear, int):
    image.info['transparency'] = clear * LEVELS[raw]
  return image


def sixteen(image: Image, clear: int | None) -> Image:
  """The upper 8 of 16 bits, or of as many as a TIFF says; `clear` is white."""
  wide = np.asarray(image)
  pixels = (wide >> (tiff_tag(image, BITS, 16) - 8)).astype(np.uint8)
  if tiff_tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
    np.invert(pixels, out=pixels)
  if clear is not None:
    pixels[wide == clear] = 255
  return PIL.Image.fromarray(pixels)


def floats(image: Image) -> Image:
  """Floats in [0, 1] as 0 ... 255."""
  values = np.asarray(image)
  low, high = float(values.min()), float(values.max())
  if not -1 / 510 < low <= high < 1 + 1 / 510:  # half a level beyond
    raise ValueError(
      f'its floats lie in [{low:g}, {high:g}], and must lie in [0, 1]'
    )
  pixels = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
  if tiff_tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
    np.invert(pixels, out=pixels)
  return PIL.Image.fromarray(pixels)


def tiff_tag(image: Image, tag: int, default: int) -> int:
  """The value of a TIFF's tag, or its first; the default for other formats."""
  value = getattr(image, 'tag_v2', {}).get(tag, default)
  return value[0] if isinstance(value, tuple) else value
