"""Captioned pictures in parquet files, of random access by row group."""

import bisect
import collections
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned_pictures import CaptionedPictures
from flowdistill.datasets.column_rows import captioned_rows, check_columns
from flowdistill.datasets.files import Stamp, stamp_of
from flowdistill.datasets.pictures import check
from flowdistill.files.paths import expand

HELD = 2**28  # bytes of row groups that are kept
OPEN = 64  # files


def parquet(
  *,
  path: str = '',
  image: str = 'image_bytes',
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
  """Pictures and captions in a parquet file, or in all below a folder.

  Args:
    path: of the file or folder.
    image: column of the pictures' files: bytes, or records with `bytes`.
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
    ValueError: if a file is not there or damaged, has not these columns, or an
      option is out of range.
  """
  check(size, channels, resize, max_broken)
  return captioned_rows(
    Parquet(parquet_files(path), path, image, text),
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


def parquet_files(path: str) -> list[pathlib.Path]:
  """The parquet files of a path, in the order of their names.

  Raises:
    ValueError: if there is none.
  """
  if not path:
    raise ValueError("path = '' must name a parquet file, or a folder of them")
  where = expand(path, f'path = {path!r}').absolute()
  if where.is_file():
    return [where]
  if not where.exists():
    raise ValueError(f'path = {path!r} does not exist')
  files = sorted(
    file
    for file in where.rglob('*.parquet')
    if not any(p[0] in '._' for p in file.relative_to(where).parts)
  )
  if not files:
    raise ValueError(f'path = {path!r} has no .parquet in it')
  return files


class Parquet:
  """Rows of parquet files (see `Columns`); a row group is read as a whole.

  The row groups that were read last are kept, up to `HELD` bytes.

  Args:
    files: in order.
    path: as it was given.
    image, text: names of the columns.

  Raises:
    ValueError: if a file is damaged, or has not these columns.
  """

  def __init__(
    self, files: Sequence[pathlib.Path], path: str, image: str, text: str
  ):
    self.files, self.names = files, (image, text)
    self.stamps: dict[Any, Stamp] = {file: stamp_of(file) for file in files}
    self.groups: list[tuple[int, int]] = []  # (file, number in it)
    sizes: list[int] = []
    for number, file in enumerate(files):
      with opened(file, path) as found:
        try:
          check_columns(found.schema_arrow, image, text)
        except ValueError as error:
          raise ValueError(f'{error}, in {str(file)!r}') from error
        metadata = found.metadata
        for group in range(metadata.num_row_groups):
          self.groups.append((number, group))
          sizes.append(metadata.row_group(group).num_rows)
    self.ends = np.cumsum(sizes, dtype=np.int64).tolist()
    self._held = collections.OrderedDict[tuple[int, str], Any]()
    self._bytes = 0
    self._files = collections.OrderedDict[int, Any]()
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return self.ends[-1] if self.ends else 0

  def name(self, row: int) -> str:
    """File and number of a row, which is counted from 0 over all files."""
    group, _ = self._place(row)
    return f'{self.files[self.groups[group][0]].name} row {row}'

  def image(self, row: int) -> Any:
    """The picture of a row."""
    return self._value(row, self.names[0])

  def text(self, row: int) -> Any:
    """The caption of a row."""
    return self._value(row, self.names[1])

  def _place(self, row: int) -> tuple[int, int]:
    """(row group over all files, row in it)."""
    group = bisect.bisect_right(self.ends, row)
    return group, row - (self.ends[group - 1] if group else 0)

  def _value(self, row: int, name: str) -> Any:
    group, place = self._place(row)
    with self._lock:  # one thread reads a group, and all others then have it
      column = self._column(group, name)
    return column[place].as_py()

  def _column(self, group: int, name: str) -> Any:
    """A column of a row group, read or kept."""
    import pyarrow as pa

    if (found := self._held.get((group, name))) is not None:
      self._held.move_to_end((group, name))
      return found
    number, inside = self.groups[group]
    try:
      table = self._file(number).read_row_group(inside, columns=[name])
    except (pa.ArrowException, OSError) as error:
      raise ValueError(f'its row group cannot be read: {error}') from error
    column = table.column(name)
    self._held[group, name] = column
    self._bytes += column.nbytes
    while self._bytes > HELD and len(self._held) > 1:
      _, oldest = self._held.popitem(last=False)
      self._bytes -= oldest.nbytes
    return column

  def _file(self, number: int) -> Any:
    """An open file."""
    if number not in self._files:
      self._files[number] = opened(self.files[number], '')
      if len(self._files) > OPEN:
        _, oldest = self._files.popitem(last=False)
        oldest.close()
    self._files.move_to_end(number)
    return self._files[number]


def opened(file: pathlib.Path, path: str) -> Any:
  """A parquet file; raises ValueError if it is damaged."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  try:
    return pq.ParquetFile(file)
  except (pa.ArrowException, OSError) as error:
    raise ValueError(
      f'path = {path!r}: {str(file)!r} cannot be read: {error}'
    ) from error
