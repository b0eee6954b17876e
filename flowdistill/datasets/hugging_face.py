"""Captioned pictures of a Hugging Face data set, as `save_to_disk` wrote it.

A folder has state.json, which names its Arrow files in order. They are streams
of record batches, and are memory-mapped.
"""

import bisect
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned_pictures import CaptionedPictures
from flowdistill.datasets.column_rows import captioned_rows, check_columns
from flowdistill.datasets.files import Stamp, stamp_of
from flowdistill.datasets.pictures import check
from flowdistill.files.paths import expand
from flowdistill.files.regular import read_regular

STATE, SPLITS = 'state.json', 'dataset_dict.json'


def hugging_face(
  *,
  path: str = '',
  image: str = 'image',
  text: str = 'text',
  size: int = 64,
  channels: int = 3,
  resize: str = 'centre_crop',
  buckets: Buckets | None = None,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
  max_broken: float = 0.01,
) -> CaptionedPictures:
  """Pictures and captions of a data set that `save_to_disk` wrote.

  Args:
    path: of the folder; one with several splits has a folder for each.
    image: column of the pictures: records with `bytes`, or bytes.
    text: column of the captions.
    size: side of the square that every picture becomes, in pixels.
    channels: 3 for RGB, 1 for grey.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    buckets: shapes of about the area of the square, one for each batch of
      training (see `buckets.py`); None makes squares.
    split: 'all', 'train' or 'validation', by a hash of a row's number.
    validation: share of the rows that are held out, in [0, 1].
    held_out: a file with the numbers of held-out rows, one per line, counted
      from 0, which replaces the hash.
    max_broken: largest share of unreadable pictures; above it, reading fails.

  Raises:
    ValueError: if it is no such folder or damaged, has not these columns, or an
      option is out of range.
  """
  check(size, channels, resize, max_broken)
  return captioned_rows(
    ArrowFiles(arrow_files(path), path, image, text),
    path,
    size=size,
    channels=channels,
    resize=resize,
    split=split,
    validation=validation,
    held_out=held_out,
    max_broken=max_broken,
    buckets=buckets,
  )


def arrow_files(path: str) -> list[pathlib.Path]:
  """The Arrow files of a data set, in its order.

  Raises:
    ValueError: if it is none, has several splits, or rows in another order than
      that of its files.
  """
  if not path:
    raise ValueError("path = '' must name a folder that save_to_disk wrote")
  where = expand(path, f'path = {path!r}').absolute()
  if (where / SPLITS).is_file():
    splits = read_object(where / SPLITS, path).get('splits', [])
    raise ValueError(
      f'path = {path!r} has the splits {", ".join(map(repr, splits))}: name '
      f"the folder of one, such as '{path.rstrip('/')}/{[*splits, 'train'][0]}'"
    )
  if not (where / STATE).is_file():
    raise ValueError(
      f'path = {path!r} has no {STATE}, which save_to_disk writes'
    )
  state = read_object(where / STATE, path)
  if state.get('_indices_data_files'):
    raise ValueError(
      f'path = {path!r} has its rows in another order than in its files: save '
      'dataset.flatten_indices()'
    )
  try:
    names = [str(each['filename']) for each in state['_data_files']]
  except (LookupError, TypeError) as error:
    raise ValueError(f'path = {path!r}: {STATE} names no files') from error
  if outside := [name for name in names if pathlib.Path(name).name != name]:
    raise ValueError(
      f'path = {path!r}: {STATE} names {outside[0]!r}, which is not in the '
      'folder'
    )
  return [where / name for name in names]


def read_object(file: pathlib.Path, path: str) -> Mapping[str, Any]:
  """A JSON object of another program; raises ValueError if it is broken."""
  try:
    found = json.loads(read_regular(file))
  except (OSError, ValueError, RecursionError) as error:
    raise ValueError(
      f'path = {path!r}: {file.name} cannot be read: {error}'
    ) from error
  if not isinstance(found, dict):
    raise ValueError(f'path = {path!r}: {file.name} is not an object')
  return found


class ArrowFiles:
  """Rows of memory-mapped Arrow files (see `Columns`).

  Args:
    files: in order.
    path: as it was given.
    image, text: names of the columns.

  Raises:
    ValueError: if a file is damaged, or has not these columns.
  """

  def __init__(
    self, files: list[pathlib.Path], path: str, image: str, text: str
  ):
    self.files = files
    self.stamps: dict[Any, Stamp] = {file: stamp_of(file) for file in files}
    self.batches: list[tuple[Any, ...]] = []
    sizes: list[int] = []
    for number, file in enumerate(files):
      for batch in batches_of(file, path, image, text):
        images, texts = batch.column(image), batch.column(text)
        self.batches.append((number, images, texts))
        sizes.append(batch.num_rows)
    self.ends = np.cumsum(sizes, dtype=np.int64).tolist()

  def __len__(self) -> int:
    return self.ends[-1] if self.ends else 0

  def name(self, row: int) -> str:
    """File and number of a row, which is counted from 0 over all files."""
    number, *_ = self.batches[bisect.bisect_right(self.ends, row)]
    return f'{self.files[number].name} row {row}'

  def image(self, row: int) -> Any:
    """The picture of a row."""
    return self._value(row, 1)

  def text(self, row: int) -> Any:
    """The caption of a row."""
    return self._value(row, 2)

  def _value(self, row: int, column: int) -> Any:
    batch = bisect.bisect_right(self.ends, row)
    place = row - (self.ends[batch - 1] if batch else 0)
    return self.batches[batch][column][place].as_py()


def batches_of(
  file: pathlib.Path, path: str, image: str, text: str
) -> list[Any]:
  """The record batches of an Arrow stream, memory-mapped.

  Raises:
    ValueError: if it is damaged, or has not these columns.
  """
  import pyarrow as pa

  try:
    with pa.ipc.open_stream(pa.memory_map(str(file))) as stream:
      schema, batches = stream.schema, [*stream]
  except (pa.ArrowException, OSError) as error:
    raise ValueError(
      f'path = {path!r}: {str(file)!r} cannot be read: {error}'
    ) from error
  check_columns(schema, image, text)
  return batches
