"""JSON files that are written atomically, and errors that name their file."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Generator, Mapping
from typing import Any


def jsonable(value: Any) -> Any:
  """Replaces values that JSON cannot represent, in a tree of dicts and lists.

  NaN and the infinities become the strings 'nan', 'inf' and '-inf', which
  Python's `float` reads back. Scalars of NumPy and JAX become numbers, paths
  become strings.
  """
  if isinstance(value, Mapping):
    return {str(k): jsonable(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [jsonable(v) for v in value]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, 'item'):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes `jsonable(value)` atomically: a reader sees all of it or nothing."""
  path = pathlib.Path(path)
  text = json.dumps(jsonable(value), indent=2, allow_nan=False)
  temporary = path.with_name(f'{path.name}.tmp')
  with naming(path):
    temporary.write_text(f'{text}\n', encoding='utf-8')
    os.replace(temporary, path)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Generator[None]:
  """Adds the file to an OSError without one, as 'No space left on device'."""
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = os.fspath(path)
    raise
