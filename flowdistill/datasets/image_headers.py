"""What the header of a picture says, before its pixels are decoded."""

import collections
import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import PIL.ExifTags
import PIL.Image

from flowdistill.datasets.formats import FORMATS
from flowdistill.datasets.images import opened

Image = PIL.Image.Image
GREY = ('1', 'L', 'LA', 'La', 'I', 'F')  # modes, and those of 16 bits
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
# What a PNG has in it that may be turned: to ask Pillow is to decode it.
TAGGED = re.compile(rb'exif|xmp', re.IGNORECASE)
CODECS = {'MPO': 'JPEG'}  # what cameras write is a JPEG with a preview behind


@dataclasses.dataclass(frozen=True)
class Header:
  """Of a picture.

  Attributes:
    size: (width, height) of the upright picture.
    grey: whether all its colours are grey.
    codec: its format, in lower case.
  """

  size: tuple[int, int]
  grey: bool
  codec: str


def header_of(data: bytes) -> Header:
  """The header of the picture in a file's bytes.

  Raises:
    ValueError: as `images.opened`, or if there are several pictures in it.
  """
  with opened(data) as image:
    header = Header(_upright_size(image, data), _is_grey(image), _codec(image))
    frames = getattr(image, 'n_frames', 1)
  if frames > 1 and image.format not in CODECS:
    raise ValueError(
      f'there are {frames} pictures in it, and one is needed: save each as a '
      'file'
    )
  return header


def shape_of(data: bytes) -> tuple[int, int]:
  """(height, width) of the upright picture in a file's bytes.

  Of several pictures it is the first, as where they are decoded.

  Raises:
    ValueError: as `images.opened`.
  """
  with opened(data) as image:
    width, height = _upright_size(image, data)
  return height, width


def same_size(
  names: Sequence[str], headers: Sequence[Header]
) -> tuple[int, int]:
  """(width, height) of all pictures.

  Raises:
    ValueError: naming a picture of the most frequent size and one of another.
  """
  counts = collections.Counter(header.size for header in headers)
  usual = counts.most_common(1)[0][0]
  if len(counts) > 1:
    first = {h.size: n for n, h in zip(names[::-1], headers[::-1], strict=True)}
    other = next(size for size in first if size != usual)
    raise ValueError(
      f'all pictures must have one size; {first[usual]!r} has {_said(usual)} '
      f'pixels and {first[other]!r} {_said(other)} '
      f'({len(headers) - counts[usual]:,} of {len(headers):,} are not '
      f'{_said(usual)}): resize them first, all by one rule, as a figure '
      'depends on it, or move those of another size away'
    )
  return usual


def codec_of(headers: Sequence[Header]) -> str:
  """'png', or 'png and jpeg' of several formats."""
  found = {header.codec for header in headers}
  known = [name.lower() for name in FORMATS if name.lower() in found]
  return ' and '.join([*known, *sorted(found - {*known})])


def _said(size: tuple[int, int]) -> str:
  return f'{size[0]} x {size[1]}'


def _codec(image: Image) -> str:
  name = image.format or ''
  return CODECS.get(name, name).lower()


def _upright_size(image: Image, data: bytes) -> tuple[int, int]:
  width, height = image.size
  if width == height or image.format == 'TIFF':  # which Pillow turns itself
    return width, height
  if image.format == 'PNG' and not TAGGED.search(data):
    return width, height
  turn = image.getexif().get(PIL.ExifTags.Base.Orientation)
  return (height, width) if turn in SIDEWAYS else (width, height)


def _is_grey(image: Image) -> bool:
  """Whether it has no colours, or only grey ones in its palette."""
  if image.mode in GREY or image.mode.startswith('I;16'):
    return True
  if image.mode != 'P' or image.palette is None:
    return False
  layout, colours = image.palette.getdata()
  if layout != 'RGB' or len(colours) % 3:
    return False
  table = np.frombuffer(bytes(colours), np.uint8).reshape(-1, 3)
  return bool((table == table[:, :1]).all())
