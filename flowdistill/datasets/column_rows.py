"""Captioned pictures in the rows of columns: parquet, or Arrow files."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned import Captioned, with_text
from flowdistill.datasets.captioned_pictures import CaptionedPictures
from flowdistill.datasets.captions import check_length, check_text
from flowdistill.datasets.catalogue import counted
from flowdistill.datasets.decoders import Pixels
from flowdistill.datasets.files import Stamp, check_size
from flowdistill.datasets.folder import say
from flowdistill.datasets.pictures import check
from flowdistill.datasets.source import Batch
from flowdistill.datasets.split import split_indices
from flowdistill.datasets.texts import Text
from flowdistill.flow.spec import CONTROL, Condition, DataSpec


class Columns(Protocol):
  """Rows by number. `stamps` are those of the files, by path.

  `name(row)` is for messages; `image` and `caption` return the values of a row
  in its columns, which may be of any type, and `control` the control picture.
  """

  stamps: dict[Any, Stamp]

  def __len__(self) -> int: ...
  def name(self, row: int, /) -> str: ...
  def image(self, row: int, /) -> Any: ...
  def caption(self, row: int, /) -> Any: ...
  def control(self, row: int, /) -> Any: ...


class CaptionedRows:
  """Some of the rows (see `captioned_pictures.CaptionedFiles`).

  Args:
    columns: of all rows.
    rows: of the pictures, int64 [n].
    control: decodes the control pictures; None without any.
  """

  def __init__(
    self, columns: Columns, rows: np.ndarray, control: Pixels | None = None
  ):
    self.columns, self.rows, self.control = columns, rows, control

  def __len__(self) -> int:
    return len(self.rows)

  def name(self, place: int) -> str:
    """File and number of a row."""
    return self.columns.name(int(self.rows[place]))

  def read(self, place: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """The file of a picture, and its control picture, if there are some.

    Raises:
      ValueError: if there is none, or its caption cannot be read.
    """
    self.caption(place)
    data = image_bytes(self.columns.image(int(self.rows[place])))
    return data, {k: v[0] for k, v in self.conditions([place]).items()}

  def conditions(self, places: Sequence[int] | np.ndarray) -> Batch:
    """The control pictures in [-1, 1], if there are some.

    Raises:
      ValueError: if one cannot be decoded.
    """
    if self.control is None:
      return {}
    pixels = [self._control(int(self.rows[place])) for place in places]
    return {CONTROL: self.control.finish(np.stack(pixels))}

  def _control(self, row: int) -> np.ndarray:
    assert self.control is not None
    try:
      return self.control.decode(image_bytes(self.columns.control(row)))
    except ValueError as error:
      raise ValueError(f'of its control picture, {error}') from error

  def caption(self, place: int) -> str:
    """The caption of a picture; raises ValueError if it is no text."""
    found = self.columns.caption(int(self.rows[place]))
    text = check_text(found, 'its caption')
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


def make_rows_dataset(
  open_columns: Callable[[str, str, str, str | None], Columns], *, column: str
) -> Callable[..., CaptionedPictures | Captioned]:
  """The data set of captioned pictures in such columns.

  Args:
    open_columns: (path, name of the pictures' column, of the captions', of the
      control pictures' or None) -> rows.
    column: of the pictures, if none is named.
  """

  def rows_dataset(
    *,
    path: str = '',
    image: str = column,
    caption: str = 'text',
    control: str | None = None,
    size: int = 64,
    channels: int = 3,
    resize: str = 'centre_crop',
    buckets: Buckets | None = None,
    text: Text | None = None,
    split: str = 'all',
    validation: float = 0.1,
    held_out: str | None = None,
    max_broken: float = 0.01,
  ) -> CaptionedPictures | Captioned:
    """Pictures and captions in columns.

    Args:
      path: of a parquet file, or of a folder with some at any depth; of the
        folder that Hugging Face's `save_to_disk` wrote.
      image: column of the pictures' files: bytes, or records with `bytes`.
      caption: column of the captions.
      control: column of control pictures, which are resized as the pictures
        are, and become the condition `control`; None for none.
      size: side of the square that every picture becomes, in pixels.
      channels: 3 for RGB, 1 for grey.
      resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
      buckets: shapes of about the area of the square, one for each batch of
        training (see `buckets.py`); None makes squares.
      text: what makes conditions of the captions (see `texts.py`); None for no
        such conditions.
      split: 'all', 'train' or 'validation', by a hash of a row's number.
      validation: share of the rows that are held out, in [0, 1].
      held_out: a file with the numbers of held-out rows, one per line, counted
        from 0, which replaces the hash.
      max_broken: largest share of unreadable pictures; above it, reading fails.

    Raises:
      ValueError: if a file is not there or damaged, has not these columns, or
        an option is out of range.
    """
    check(size, channels, resize, max_broken)
    columns = open_columns(path, image, caption, control)
    if not len(columns):
      raise ValueError(f'path = {path!r} has no row')
    say(
      f'{path!r}: {counted(len(columns), "row")} in '
      f'{counted(len(columns.stamps), "file")}'
    )
    rows = split_indices(
      len(columns), split, validation=validation, held_out=held_out
    )
    shape = size, size, channels
    cond = {CONTROL: Condition(shape, 'float32', 0.0)} if control else {}
    pixels = Pixels(DataSpec(shape, cond), resize)
    pictures = CaptionedPictures(
      CaptionedRows(columns, rows, pixels if control else None),
      pixels,
      max_broken=max_broken,
      files=columns,
      buckets=buckets,
    )
    return with_text(pictures, text)

  return rows_dataset


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


def check_columns(
  schema: Any, image: str, caption: str, control: str | None
) -> None:
  """Checks the columns of captioned pictures; see `check_column`."""
  from pyarrow import types

  def is_binary(kind: Any) -> bool:
    if types.is_struct(kind):
      index = kind.get_field_index('bytes')
      return index >= 0 and is_binary(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)

  def is_text(kind: Any) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)

  check_column('image', image, 'bytes', schema, is_binary)
  check_column('caption', caption, 'texts', schema, is_text)
  if control is not None:
    check_column('control', control, 'bytes', schema, is_binary)
