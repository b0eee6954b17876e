"""Captioned pictures in the rows of columns: parquet, or Arrow files."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned_pictures import CaptionedPictures
from flowdistill.datasets.captions import check_length, check_text
from flowdistill.datasets.catalogue import counted
from flowdistill.datasets.files import Stamp, check_size
from flowdistill.datasets.folder import say
from flowdistill.datasets.split import split_indices
from flowdistill.flow.spec import DataSpec


class Columns(Protocol):
  """Rows by number. `stamps` are those of the files, by path.

  `name(row)` is for messages; `image` and `text` return the values of a row in
  its two columns, which may be of any type.
  """

  stamps: dict[Any, Stamp]

  def __len__(self) -> int: ...
  def name(self, row: int, /) -> str: ...
  def image(self, row: int, /) -> Any: ...
  def text(self, row: int, /) -> Any: ...


class CaptionedRows:
  """Some of the rows (see `captioned_pictures.CaptionedFiles`).

  Args:
    columns: of all rows.
    rows: of the pictures, int64 [n].
  """

  def __init__(self, columns: Columns, rows: np.ndarray):
    self.columns, self.rows = columns, rows

  def __len__(self) -> int:
    return len(self.rows)

  def name(self, place: int) -> str:
    """File and number of a row."""
    return self.columns.name(int(self.rows[place]))

  def read(self, place: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """The file of a picture, whose caption can be read, too.

    Raises:
      ValueError: if there is none.
    """
    self.caption(place)
    return image_bytes(self.columns.image(int(self.rows[place]))), {}

  def conditions(self, places: np.ndarray) -> dict[str, np.ndarray]:
    """None."""
    del places
    return {}

  def caption(self, place: int) -> str:
    """The caption of a picture; raises ValueError if it is no text."""
    text = check_text(self.columns.text(int(self.rows[place])), 'its caption')
    check_length(len(text))
    return text


def image_bytes(value: Any) -> bytes:
  """The file of a picture: bytes, or the `bytes` of a record with a path.

  Raises:
    ValueError: if there is none, or it is too large.
  """
  if isinstance(value, dict):  # of Hugging Face: {'bytes': ..., 'path': ...}
    path, value = value.get('path'), value.get('bytes')
    if value is None and path:
      raise ValueError(f'its picture is only named, {path!r}, and not stored')
  if not isinstance(value, bytes):
    kind = 'null' if value is None else type(value).__name__
    raise ValueError(f'its picture is {kind} and not bytes')
  check_size(len(value))
  return value


def captioned_rows(
  columns: Columns,
  path: str,
  *,
  size: int,
  channels: int,
  resize: str,
  split: str,
  validation: float,
  held_out: str | None,
  max_broken: float,
  buckets: Buckets | None,
) -> CaptionedPictures:
  """The pictures of a split of all rows; see the data set `parquet`.

  Raises:
    ValueError: if there is no row, or an option is out of range.
  """
  if not len(columns):
    raise ValueError(f'path = {path!r} has no row')
  say(
    f'{path!r}: {counted(len(columns), "row")} in '
    f'{counted(len(columns.stamps), "file")}'
  )
  rows = split_indices(
    len(columns), split, validation=validation, held_out=held_out
  )
  return CaptionedPictures(
    CaptionedRows(columns, rows),
    DataSpec((size, size, channels)),
    resize=resize,
    max_broken=max_broken,
    buckets=buckets,
    files=columns,
  )


def check_column(
  key: str, name: str, kind: str, schema: Any, fits: Callable[[Any], bool]
) -> None:
  """Refuses a column that is not there, or of another type.

  Args:
    key: of the option.
    name: of the column.
    kind: what it must have, for the message.
    schema: of Arrow.
    fits: whether a type of Arrow is right.

  Raises:
    ValueError: naming the columns that there are.
  """
  there = ', '.join(f'{f.name!r} ({f.type})' for f in schema)
  if schema.names.count(name) != 1:
    raise ValueError(f'{key} = {name!r} must be one of the columns {there}')
  found = schema.field(name).type
  if not fits(found):
    raise ValueError(
      f'{key} = {name!r} must be a column of {kind}, and is {found}; there are '
      f'{there}'
    )


def check_columns(schema: Any, image: str, text: str) -> None:
  """Checks the two columns of captioned pictures; see `check_column`."""
  from pyarrow import types

  def is_binary(kind: Any) -> bool:
    if types.is_struct(kind):
      index = kind.get_field_index('bytes')
      return index >= 0 and is_binary(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)

  def is_text(kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)

  check_column('image', image, 'bytes', schema, is_binary)
  check_column('text', text, 'texts', schema, is_text)
