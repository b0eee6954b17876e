"""The list of files that `--job=generate` leaves beside its samples."""

import json
import pathlib
from collections.abc import Mapping

MARK = 'generated.json'


def ours(folder: pathlib.Path) -> Mapping[str, int]:
  """The files of a folder that are listed there; {} without a list.

  Returns:
    name -> 1, such as of samples.npz, or '.png' -> 30 for 00000.png to
    00029.png.
  """
  try:
    record = json.loads((folder / MARK).read_bytes())
    files = {str(k): int(v) for k, v in record['files'].items()}
  except (OSError, ValueError, TypeError, LookupError, AttributeError):
    return {}
  return {MARK: 1, **files}
