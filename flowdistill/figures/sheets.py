"""Pictures of evaluations, re-encoded as WebP for a page that has to be small.

Contact sheets say how they were drawn (see evaluators/sheets.py), so that a
page can put those of one seed side by side. Other pictures, such as a scatter
plot, have a name and a step.
"""

import base64
import dataclasses
import functools
import io
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from flowdistill.evaluators.sheets import ABOUT, COLUMNS
from flowdistill.evaluators.signature import SHEETS
from flowdistill.evaluators.sweep import format_options
from flowdistill.files.json_reader import parse_json
from flowdistill.workdir.folders import SAMPLES

MOST = 500  # pictures of an evaluation that are looked at
LARGE = 2**17  # pixels, above which a picture is encoded with a loss
WIDEST = 1600  # pixels of a picture on the page
PIXELS = 2**25  # of a file, above which it is not read
FIELDS = {
  'model': str,
  'sampler': str,
  'nfe': int | float,
  'options': dict,
  'seed': int,
  'examples': int,
}
SLIDERS = ('step', 'nfe', 'guidance', 'gamma')
BROKEN = (  # what Pillow raises for damaged files
  OSError,
  ValueError,
  SyntaxError,
  EOFError,
  LookupError,
  TypeError,
  RuntimeError,
  MemoryError,
  struct.error,
  zlib.error,
  Image.DecompressionBombError,
)


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture of an evaluation.

  Attributes:
    path: of the PNG.
    way: what was drawn, such as 'student, flow map'; the title of its panel.
    at: the values of the sliders, of those that it has: step, nfe, ...
    is_sheet: whether it is a contact sheet.
    seed: of the noise of a contact sheet.
    columns: images in a row of it.
  """

  path: pathlib.Path
  way: str
  at: Mapping[str, float]
  is_sheet: bool = False
  seed: int = 0
  columns: int = 1


def pictures_in(
  folder: pathlib.Path, step: int, notes: list[str], weights: str = ''
) -> Iterator[Picture]:
  """The pictures of an evaluation: the contact sheets, then the others.

  Args:
    folder: of an evaluation, or of a stage.
    step: that was evaluated.
    notes: gets a sentence about each picture that is left out.
    weights: that were sampled, if they are others than by default.
  """
  sheets = sorted((folder / SHEETS).glob('*.png'))
  others = sorted((folder / SAMPLES).glob('*.png'))
  for path in [*sheets, *others][:MOST]:
    if path.parent.name != SHEETS:
      picture = Picture(path, path.stem.replace('_', ' '), {'step': step})
    elif about := _about(path, notes):
      picture = _sheet(path, about, step)
    else:
      continue
    way = f'{picture.way}, weights {weights}' if weights else picture.way
    yield dataclasses.replace(picture, way=way)
  if (more := len(sheets) + len(others) - MOST) > 0:
    notes.append(f'{more} more pictures are in {folder.name}.')


def _about(path: pathlib.Path, notes: list[str]) -> dict[str, Any]:
  """How a contact sheet was drawn; {} and a note if it does not say."""
  try:
    with Image.open(path, formats=['PNG']) as image:
      about = parse_json(image.info[ABOUT].encode(), path)
    if {*FIELDS} <= about.keys() and all(
      isinstance(about[name], kind) for name, kind in FIELDS.items()
    ):
      return about
  except (*BROKEN, AttributeError):
    pass
  notes.append(f'{path.name} does not say how it was drawn.')
  return {}


def _sheet(path: pathlib.Path, about: Mapping[str, Any], step: int) -> Picture:
  options = dict(about['options'])
  at = {'step': step} | ({} if 'adaptive' in about else {'nfe': about['nfe']})
  for name in ('guidance', 'gamma'):
    value = options.get(name)
    if isinstance(value, Mapping) and isinstance(
      value.get('scale'), int | float
    ):
      at[name] = value['scale']
      options[name] = {**value, 'scale': ''}
    elif isinstance(value, int | float):
      at[name] = options.pop(name)
  words = [about['model'], f'{about["sampler"]}'.replace('_', ' ')]
  words += [format_options(options)] if options else []
  columns = min(max(about['examples'], 1), COLUMNS)
  return Picture(path, ', '.join(words), at, True, about['seed'], columns)


@dataclasses.dataclass(frozen=True)
class Webp:
  """An encoded picture, and the width of its file in pixels."""

  data: bytes
  width: int

  @property
  def uri(self) -> str:
    """The address of an image that needs no request."""
    return f'data:image/webp;base64,{base64.b64encode(self.data).decode()}'

  def __len__(self) -> int:
    return len('data:image/webp;base64,') + 4 * -(-len(self.data) // 3)


NOTHING = Webp(b'', 0)


def encode(path: pathlib.Path, shrink: int = 1) -> Webp:
  """A picture as WebP, 1 / shrink times as wide; NOTHING if it is unreadable.

  Small pictures are encoded without a loss, so that pixels stay sharp.
  """
  try:
    about = os.stat(path)
    return _encode(path, shrink, (about.st_mtime_ns, about.st_size))
  except BROKEN:
    return NOTHING


@functools.lru_cache(maxsize=400)
def _encode(path: pathlib.Path, shrink: int, version: tuple[int, int]) -> Webp:
  """It is cached for the next page; `version` tells files of one name apart."""
  del version
  with Image.open(path, formats=['PNG']) as image:
    if image.width * image.height > PIXELS:
      raise ValueError(f'{path} has too many pixels')
    factor = max(shrink, -(-image.width // WIDEST))
    small = image.convert('RGBA')
  small = small.reduce(factor) if factor > 1 else small
  lossless = small.width * small.height <= LARGE and factor == 1
  file = io.BytesIO()
  small.save(file, format='webp', lossless=lossless, quality=80, method=4)
  return Webp(file.getvalue(), small.width * factor)
