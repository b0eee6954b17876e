"""Contact sheets: images of one entry of a sweep in a PNG, which says how.

The text ABOUT of the PNG is a JSON object: the columns of the entry, its
`options` as an object, the `seed` of the noise, the number of `examples`, and
the `prompts` that they show in turn, if any.
Example i has the same noise and the same condition on all sheets of one seed.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flowdistill.evaluators.signature import NOWHERE, SHEETS
from flowdistill.evaluators.sweep import SweepEntry
from flowdistill.files.atomic import replacing

ABOUT = 'flowdistill'
COLUMNS, MOST = 10, 40  # images in a row, and on a sheet
LARGEST = 128  # pixels of a side


def write_sheet(
  folder: pathlib.Path,
  entry: SweepEntry,
  x: np.ndarray,
  *,
  seed: int,
  prompts: Sequence[str] = (),
) -> None:
  """Writes `folder`/sheets/NAME.png; below `NOWHERE` nothing.

  A sheet of the same entry and seed is replaced.

  Args:
    folder: of the stage, or of an evaluation.
    entry: how they were drawn.
    x: images [n, h, w, 1 or 3] in [-1, 1], of which the first 40 are shown.
    seed: of their noise.
    prompts: that they show in turn, if they have any.
  """
  x = x[:MOST]
  about = {
    **entry.columns(),
    'options': dict(entry.options),
    'seed': seed,
    'examples': len(x),
    **({'prompts': [*prompts]} if prompts else {}),
  }
  text = json.dumps(about, sort_keys=True, default=str)
  path = folder / SHEETS / f'{_name(entry, text)}.png'
  if NOWHERE in path.parents:
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  info = PngInfo()
  info.add_itxt(ABOUT, text)
  with replacing(path) as file:
    arranged(x).save(file, format='png', pnginfo=info)


def arranged(x: np.ndarray) -> Image.Image:
  """Images [n, h, w, 1 or 3] in [-1, 1] in rows of ten, on nothing.

  Between them is a transparent gap, so that they lie on any page.
  """
  factor = -(-max(x.shape[1:3]) // LARGEST)
  tiles = [_tile(each, factor) for each in x]
  w, h = tiles[0].size
  gap = max(1, h // 16)
  columns, rows = min(len(x), COLUMNS), -(-len(x) // COLUMNS)
  size = columns * (w + gap) - gap, rows * (h + gap) - gap
  page = Image.new('RGBA', size)
  for k, tile in enumerate(tiles):
    row, column = divmod(k, COLUMNS)
    page.paste(tile, (column * (w + gap), row * (h + gap)))
  return page


def _tile(x: np.ndarray, factor: int) -> Image.Image:
  """An image [h, w, 1 or 3]; the mean of factor × factor pixels is one."""
  rounded = np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)
  tile = Image.fromarray(np.broadcast_to(rounded, (*x.shape[:2], 3)).copy())
  return tile.reduce(factor)


def _name(entry: SweepEntry, text: str) -> str:
  """'student_flow_map_4-1a2b3c4d', which no two ways of drawing share."""
  words = f'{entry.model}_{entry.sampler}_{"" if entry.adaptive else entry.nfe}'
  spelled = re.sub(r'[^\w.-]+', '_', words).strip('_.')[:60]
  return f'{spelled}-{hashlib.sha256(text.encode()).hexdigest()[:8]}'
