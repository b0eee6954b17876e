"""The one reader of JSON files: it names the file and what is wrong with it.

Our own files end in a checksum, which leaves them plain JSON: after the last
newline, the bits of the SHA-256 of what is before, as spaces and tabs. Programs
skip it, and so may people: if they change a file, its end has to go with an
editor that trims blanks, or the checksum says so. A file without one, such as
of an older version, is read without it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NoReturn

from flowdistill.files.regular import read_regular

BLANKS = bytes.maketrans(b'01', b' \t')
BITS = 256
SMALLEST, LARGEST = -(2**63), 2**64 - 1
NAMES = {
  dict: 'an object',
  list: 'a list',
  str: 'a text',
  bool: 'true or false',
  int: 'an integer',
  float: 'a number',
  type(None): 'null',
}


class DamagedFileError(ValueError):
  """A file of a run is damaged, or was not written by this package."""


def signed(text: str) -> bytes:
  """A JSON text as bytes with its checksum at the end."""
  data = f'{text}\n'.encode()
  return data + _checksum(data) + b'\n'


def _checksum(data: bytes) -> bytes:
  number = int.from_bytes(hashlib.sha256(data).digest())
  return f'{number:0{BITS}b}'.encode().translate(BLANKS)


def read_json(path: str | os.PathLike[str], kind: type = dict) -> Any:
  """The value in a JSON file, an object or a list.

  Raises:
    OSError: if the file cannot be read.
    DamagedFileError: if it is empty or cut, is not UTF-8 or not JSON, has a key
      twice, a number that is no number or too large, or another kind of value,
      or if its checksum is wrong.
  """
  data = read_regular(path)
  value = parse_json(data, path)
  _check(data, path)
  return typed(value, kind, path, 'it')


def _check(data: bytes, path: str | os.PathLike[str]) -> None:
  """Compares the checksum of a file that has one, or what is left of one."""
  body, _, blanks = data.rstrip(b'\r\n').rpartition(b'\n')
  if blanks.strip(b' \t\r') or len(blanks) < BITS // 2:
    return
  if blanks != _checksum(body + b'\n'):
    refuse(
      path,
      'is damaged: its checksum, the blanks in its last line, is of another '
      'content. If you have changed it yourself, remove that line',
    )


def parse_json(data: bytes, path: str | os.PathLike[str]) -> Any:
  """The value of a JSON text; `path` may also name a line. See `read_json`."""
  if not data.strip(b'\0 \t\r\n'):
    refuse(path, 'is empty' if not data.strip() else 'has only zero bytes')
  try:
    return json.loads(
      data.decode('utf-8-sig'),
      object_pairs_hook=_once,
      parse_constant=_no_number,
      parse_float=_finite,
      parse_int=_bounded,
    )
  except UnicodeDecodeError as error:
    refuse(path, f'is not UTF-8 at byte {error.start}', error)
  except json.JSONDecodeError as error:
    cut = not error.doc[error.pos :].strip() or error.msg.startswith('Untermin')
    where = f'line {error.lineno}, ' if '\n' in error.doc.strip() else ''
    where += f'column {error.colno}: {error.msg}'
    refuse(path, f'{"is cut" if cut else "is not JSON"} at {where}', error)
  except RecursionError as error:
    refuse(path, 'is nested too deeply', error)
  except ValueError as error:
    refuse(path, str(error), error)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  record = dict(pairs)
  if len(record) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'has the key {twice[:80]!r} twice')
  return record


def _no_number(text: str) -> NoReturn:
  raise ValueError(f'has {text}, which is no number of JSON')


def _finite(text: str) -> float:
  if abs(number := float(text)) == float('inf'):
    raise ValueError(f'has the number {text[:40]}, which is too large')
  return number


def _bounded(text: str) -> int:
  if len(text) > 20 or not SMALLEST <= int(text) <= LARGEST:
    raise ValueError(f'has the number {text[:40]}, which is too large')
  return int(text)


def typed(
  value: Any, kind: type, path: str | os.PathLike[str], what: str
) -> Any:
  """`value` if it is of a kind of JSON; an integer is a float too.

  Raises:
    DamagedFileError: that says what `what` in `path` must be.
  """
  kinds = (int, float) if kind is float else (kind,)
  if type(value) not in kinds:
    is_, wanted = NAMES[type(value)], NAMES[kind]
    refuse(
      path,
      f'was not written by this package: {what} must be {wanted}, and is {is_}',
    )
  return value


def fields(
  record: Mapping[str, Any],
  kinds: Mapping[str, type],
  path: str | os.PathLike[str],
) -> Mapping[str, Any]:
  """`record` if it has the keys of `kinds`, each with a value of its kind."""
  for key, kind in kinds.items():
    if key not in record:
      refuse(path, f'was not written by this package: it has no {key!r}')
    typed(record[key], kind, path, repr(key))
  return record


def refuse(
  path: str | os.PathLike[str], why: str, cause: Exception | None = None
) -> NoReturn:
  """Raises DamagedFileError: '{path} {why}'."""
  raise DamagedFileError(f'{os.fspath(path)} {why}') from cause
