"""Decodes the bytes of a picture, and resizes it to a square.

Decoding gives upright RGB or grey: the EXIF orientation is applied, a palette
is looked up, transparent pixels are composited on white. Only the formats of
`formats.py` are read.
"""

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Callable, Generator

import numpy as np
import PIL.Image
import PIL.ImageOps

from flowdistill.datasets.depth import eight_bits, raw_mode
from flowdistill.datasets.formats import readable

Image = PIL.Image.Image
Resize = Callable[[Image, int], Image]
LARGEST = 2**27  # pixels, read or held; more is an attack or a mistake
LONGEST = 2**16  # pixels of a side
LARGE = 2**26  # pixels; of such pictures one is decoded at a time, for memory
ALONE, NOT_ALONE = threading.Lock(), contextlib.nullcontext()
BROKEN = (  # what Pillow raises for damaged files
  OSError,
  SyntaxError,
  EOFError,
  struct.error,
  zlib.error,
  LookupError,
  TypeError,
  ArithmeticError,
  RuntimeError,
  MemoryError,
  PIL.Image.DecompressionBombError,
)
MODES = {1: 'L', 3: 'RGB'}
BOX, BICUBIC = PIL.Image.Resampling.BOX, PIL.Image.Resampling.BICUBIC


def decode(data: bytes, size: int, channels: int, resize: Resize) -> np.ndarray:
  """The picture in a file's bytes, uint8 [size, size, channels].

  Raises:
    ValueError: as `opened`; or if it is truncated, or its values have an
      unknown range.
  """
  with opened(data) as image:
    square = resize(upright(image, channels), size)
  return np.asarray(square, np.uint8).reshape(size, size, channels)


def decode_covering(
  data: bytes, height: int, width: int, channels: int
) -> np.ndarray:
  """The picture in a file's bytes, uint8 [height, width, channels].

  It is scaled to cover these, bicubic, and what is over is cropped off.

  Raises:
    ValueError: as `decode`.
  """
  with opened(data) as image:
    part = PIL.ImageOps.fit(upright(image, channels), (width, height), BICUBIC)
  return np.asarray(part, np.uint8).reshape(height, width, channels)


def decode_whole(data: bytes, channels: int) -> np.ndarray:
  """The picture in a file's bytes as it is, uint8 [h, w, channels].

  Raises:
    ValueError: as `decode`.
  """
  with opened(data) as image:
    whole = upright(image, channels)
  return np.asarray(whole, np.uint8).reshape(*whole.size[::-1], channels)


@contextlib.contextmanager
def opened(data: bytes) -> Generator[Image]:
  """The picture in a file's bytes, of which the header has been read.

  Raises:
    ValueError: if it cannot be read, is of no format that is read, or has more
      than `LARGEST` pixels or a side above `LONGEST`; and for whatever Pillow
      raises in the context.
  """
  try:
    with PIL.Image.open(io.BytesIO(data), formats=readable()) as image:
      check_pixels(image)
      with ALONE if image.width * image.height > LARGE else NOT_ALONE:
        yield image
  except PIL.UnidentifiedImageError as error:
    formats = ', '.join(readable())
    raise ValueError(
      f'it is not a picture of a format that is read ({formats})'
    ) from error
  except BROKEN as error:
    raise ValueError(str(error) or type(error).__name__) from error


def upright(image: Image, channels: int) -> Image:
  """The whole picture as RGB or grey of 8 bits, on white."""
  raw = raw_mode(image)
  PIL.ImageOps.exif_transpose(image, in_place=True)
  return opaque(eight_bits(image, raw), channels)


def check_pixels(image: Image) -> None:
  """Refuses a picture that is too large, before it is decoded."""
  width, height = image.size
  if width * height > LARGEST:
    raise ValueError(f'its {width} x {height} pixels are more than {LARGEST:,}')
  if max(width, height) > LONGEST:
    raise ValueError(
      f'a side of its {width} x {height} pixels is longer than {LONGEST:,}'
    )


def check_held(width: int, height: int) -> None:
  """Refuses a picture that becomes too large while it is resized."""
  if width * height > LARGEST:
    raise ValueError(
      f'it is so narrow that it would be scaled to {width} x {height} pixels '
      f'first, more than {LARGEST:,}'
    )


def opaque(image: Image, channels: int) -> Image:
  """RGB or grey, composited on white; of 8 bits."""
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = PIL.Image.new('RGBA', image.size, 'white')
    image = PIL.Image.alpha_composite(white, image)
  mode = MODES[channels]
  return image if image.mode == mode else image.convert(mode)


def centre_crop(image: Image, size: int) -> Image:
  """Scales the shorter side to `size`, and crops the longer to its centre."""
  return PIL.ImageOps.fit(image, (size, size), BICUBIC)


def adm(image: Image, size: int) -> Image:
  """The centre crop of ADM: box halving while twice too large, then bicubic.

  Source: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis"
  (2021), https://arxiv.org/abs/2105.05233, and its code.
  """
  while min(image.size) >= 2 * size:
    width, height = image.size
    image = image.resize((width // 2, height // 2), BOX)
  scale = size / min(image.size)
  width, height = (round(side * scale) for side in image.size)
  check_held(width, height)
  image = image.resize((width, height), BICUBIC)
  left, top = (width - size) // 2, (height - size) // 2
  return image.crop((left, top, left + size, top + size))


def stretch(image: Image, size: int) -> Image:
  """Scales the whole picture to a square, whatever its aspect ratio."""
  check_held(size, image.height)  # it is resized by rows, then by columns
  return image.resize((size, size), BICUBIC)


def cut(image: Image, size: int) -> Image:
  """Crops the centre without scaling; a smaller picture is enlarged first."""
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
