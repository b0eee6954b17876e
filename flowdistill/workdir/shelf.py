"""Arrays that are kept until they are not needed any more, in files.

What is dear to compute, such as the features of a block of samples, is found
again by a process that continues the work of one that was killed.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.files.atomic import DAY, remove_leftovers, replacing
from flowdistill.files.npz import read_npz, write_npz
from flowdistill.training.json_files import jsonable

ABOUT = 'about'
About = Mapping[str, Any]
Arrays = dict[str, np.ndarray]


class Shelf:
  """What arrays are of, such as seed and sampler -> the arrays.

  Each is a file, which is written whole; one that is damaged is not there. The
  value of 'of', if there is one, is a whole of which the arrays are a part.

  Args:
    folder: of the files, which is made when one is put.
  """

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self._used: set[pathlib.Path] = set()

  def get(self, about: About) -> Arrays | None:
    """The arrays of this, None if there are none."""
    path = self._file(about)
    try:
      found = read_npz(path, lambda names: names)
    except (OSError, ValueError):
      return None
    if found.pop(ABOUT, np.zeros(0)).tobytes() != _text(about):
      return None
    self._used.add(path)
    return found

  def put(self, about: About, arrays: Arrays) -> None:
    """Keeps arrays, whose names are not 'about'.

    Raises:
      OSError: that names the file, such as on a full disk.
    """
    path, text = self._file(about), np.frombuffer(_text(about), np.uint8)
    named = {ABOUT: text, **arrays}
    self._used.add(path)
    try:
      self._write(path, named)
    except FileNotFoundError:  # another evaluation has removed the empty folder
      self._write(path, named)

  def drop_of(self, whole: About) -> None:
    """Removes the parts of a whole."""
    for path in self.folder.glob(f'{_digest(whole)}-*.npz'):
      path.unlink(missing_ok=True)
      self._used.discard(path)

  def clear(self) -> None:
    """Removes what was put or found, and then the folder if it is empty.

    Another evaluation may be at work in it.
    """
    for path in self._used:
      path.unlink(missing_ok=True)
    self._used.clear()
    if self.folder.is_dir():
      remove_leftovers(self.folder, DAY)
    with contextlib.suppress(OSError):  # not empty, or not there
      self.folder.rmdir()

  def _write(self, path: pathlib.Path, arrays: Arrays) -> None:
    self.folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
      write_npz(file, arrays)

  def _file(self, about: About) -> pathlib.Path:
    whole = _digest(about.get('of', {}))
    return self.folder / f'{whole}-{_digest(about)}.npz'


def _digest(about: About) -> str:
  return hashlib.sha256(_text(about)).hexdigest()[:16]


def _text(about: About) -> bytes:
  return json.dumps(jsonable(about), sort_keys=True).encode()
