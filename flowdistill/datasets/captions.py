"""A caption in the bytes of a .txt or .json, and the captions of a source."""

import json
from collections.abc import Iterator, Sequence
from typing import Protocol, overload

LONGEST = 2**20  # bytes of a caption's file


def decode_text(data: bytes) -> str:
  """A caption as text, without the line breaks at its ends.

  Raises:
    ValueError: if it is not UTF-8, or longer than `LONGEST`.
  """
  check_length(len(data))
  try:
    return data.decode('utf-8-sig').strip('\r\n')
  except UnicodeDecodeError as error:
    raise ValueError('its caption is not UTF-8') from error


def decode_json(data: bytes, key: str) -> str:
  """The caption under a key of a JSON object.

  Raises:
    ValueError: as `decode_text`; or if it is no JSON object, or has no text
      under that key.
  """
  check_length(len(data))
  try:
    record = json.loads(data)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'its JSON is broken: {error}') from error
  if not isinstance(record, dict):
    raise ValueError('its JSON is not an object')
  if key not in record:
    some = ', '.join(map(repr, [*record][:8])) or 'none'
    raise ValueError(f'its JSON has no key {key!r}; there are {some}')
  return check_text(record[key], f'{key!r} of its JSON')


def check_text(value: object, title: str) -> str:
  """A caption; raises ValueError if it is no text that UTF-8 can say."""
  if not isinstance(value, str):
    kind = 'null' if value is None else type(value).__name__
    raise ValueError(f'{title} is {kind} and not a text')
  try:
    value.encode()
  except UnicodeEncodeError as error:  # half of a pair, which JSON may escape
    raise ValueError(f'{title} has a half of a surrogate pair') from error
  return value


def check_length(size: int) -> None:
  """Raises ValueError for a caption of more than `LONGEST` bytes."""
  if size > LONGEST:
    raise ValueError(f'the {size:,} bytes of its caption are over {LONGEST:,}')


class Told(Protocol):
  """A source whose captions are read one by one."""

  def __len__(self) -> int: ...
  def caption(self, index: int, /) -> str: ...


class Captions(Sequence[str]):
  """The captions of a source, read when they are indexed."""

  def __init__(self, source: Told):
    self.source = source

  def __len__(self) -> int:
    return len(self.source)

  @overload
  def __getitem__(self, index: int) -> str: ...
  @overload
  def __getitem__(self, index: slice) -> list[str]: ...
  def __getitem__(self, index: int | slice) -> str | list[str]:
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    return self.source.caption(range(len(self))[index])

  def __iter__(self) -> Iterator[str]:
    return map(self.source.caption, range(len(self)))
