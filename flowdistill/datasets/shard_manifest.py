"""The manifest of a folder of shards, and the hash of its lists of files."""

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from flowdistill.datasets.shards import MANIFEST
from flowdistill.files.json_reader import read_json


def manifest_of(
  folder: pathlib.Path, missing: str, form: str, *older: str
) -> dict[str, Any]:
  """The manifest of a folder of shards.

  Args:
    folder: of the shards.
    missing: what is said if it has none.
    form: the format that it must have ...
    older: ... or one of these.

  Raises:
    ValueError: if there is none, or it has another format.
  """
  path = folder / MANIFEST
  if not os.path.isfile(path):
    raise ValueError(missing)
  manifest = read_json(path)
  if manifest.get('format') not in (form, *older):
    raise ValueError(
      f'{path} has the format {manifest.get("format")!r}; it must be {form!r}'
    )
  return manifest


def digest_of(paths: Sequence[pathlib.Path]) -> str:
  """The SHA-256 of small files, one after the other."""
  found = hashlib.sha256()
  for path in paths:
    found.update(hashlib.sha256(path.read_bytes()).digest())
  return found.hexdigest()
