"""JSON files that are written atomically, with a checksum.

What reads them is `flowdistill.files.json_reader`.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from flowdistill.files.atomic import write_atomically
from flowdistill.files.json_reader import signed


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
  text = json.dumps(jsonable(value), indent=2, allow_nan=False)
  write_atomically(path, signed(text))
