"""From the bytes of a picture to an array, in steps that have names.

Decoding gives upright RGB or grey: the orientation of EXIF is applied, a
palette looked up, what is transparent laid on white. A resize rule then makes a
square of it.
"""

import io
import struct
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageOps

Image = PIL.Image.Image
Resize = Callable[[Image, int], Image]
LARGEST = 2**27  # pixels; more is no picture, but an attack, or a mistake
BROKEN = (  # what Pillow raises for files that are not what they say
  OSError,
  SyntaxError,
  EOFError,
  struct.error,
  PIL.Image.DecompressionBombError,
)
MODES = {1: 'L', 3: 'RGB'}
BOX, BICUBIC = PIL.Image.Resampling.BOX, PIL.Image.Resampling.BICUBIC


def decode(data: bytes, size: int, channels: int, resize: Resize) -> np.ndarray:
  """The picture in a file's bytes, uint8 [size, size, channels].

  Raises:
    ValueError: if it cannot be read, is cut off, or has more than `LARGEST`
      pixels.
  """
  try:
    with PIL.Image.open(io.BytesIO(data)) as image:
      check_pixels(image)
      PIL.ImageOps.exif_transpose(image, in_place=True)
      square = resize(opaque(image, channels), size)
  except PIL.UnidentifiedImageError as error:
    raise ValueError('it is no picture') from error
  except BROKEN as error:
    raise ValueError(str(error) or type(error).__name__) from error
  return np.asarray(square, np.uint8).reshape(size, size, channels)


def check_pixels(image: Image) -> None:
  """Refuses a picture that is too large, before its pixels are made."""
  width, height = image.size
  if width * height > LARGEST:
    raise ValueError(
      f'{width} x {height} pixels are more than the {LARGEST:,} of the largest '
      'picture that is read'
    )


def opaque(image: Image, channels: int) -> Image:
  """RGB or grey, on white where it was transparent.

  Grey of 16 bits keeps its upper eight.
  """
  if image.mode.startswith('I;16'):
    wide = np.asarray(image).astype(np.uint16)
    image = PIL.Image.fromarray((wide >> 8).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = PIL.Image.new('RGBA', image.size, 'white')
    image = PIL.Image.alpha_composite(white, image)
  mode = MODES[channels]
  return image if image.mode == mode else image.convert(mode)


def centre_crop(image: Image, size: int) -> Image:
  """The shorter side becomes `size`, and the middle of the longer one stays."""
  return PIL.ImageOps.fit(image, (size, size), BICUBIC)


def adm(image: Image, size: int) -> Image:
  """As ImageNet is cut: halved by means while twice too large, then bicubic.

  Source: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis"
  (2021), https://arxiv.org/abs/2105.05233, and the code of it.
  """
  while min(image.size) >= 2 * size:
    width, height = image.size
    image = image.resize((width // 2, height // 2), BOX)
  scale = size / min(image.size)
  width, height = (round(side * scale) for side in image.size)
  image = image.resize((width, height), BICUBIC)
  left, top = (width - size) // 2, (height - size) // 2
  return image.crop((left, top, left + size, top + size))


def stretch(image: Image, size: int) -> Image:
  """The whole picture, whatever its shape was."""
  return image.resize((size, size), BICUBIC)


def cut(image: Image, size: int) -> Image:
  """The middle at its own scale; what is smaller is enlarged first."""
  if min(image.size) < size:
    return centre_crop(image, size)
  left, top = ((side - size) // 2 for side in image.size)
  return image.crop((left, top, left + size, top + size))


RESIZES: dict[str, Resize] = {
  'centre_crop': centre_crop,
  'adm': adm,
  'stretch': stretch,
  'cut': cut,
}


def to_unit(pixels: np.ndarray) -> np.ndarray:
  """uint8 in 0 .. 255 -> float32 in [-1, 1]."""
  x = pixels.astype(np.float32)
  x /= 127.5  # in place: fresh memory takes longer than the division
  x -= 1
  return x
