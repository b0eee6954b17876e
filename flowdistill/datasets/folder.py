"""Pictures of a folder or an archive, read when they are indexed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.archives import Files, open_files
from flowdistill.datasets.pictures import Pictures
from flowdistill.datasets.split import split_places
from flowdistill.flow.spec import LABEL, DataSpec


def folder(
  *,
  path: str = '',
  size: int = 64,
  channels: int = 3,
  resize: str = 'centre_crop',
  by_class: bool = False,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
  max_broken: float = 0.01,
) -> Pictures:
  """Pictures at any depth below a folder, or of a .zip or .tar.

  Args:
    path: of the folder or archive.
    size: side of the square that every picture becomes, in pixels.
    channels: 3 for RGB, 1 for grey.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    by_class: whether the first folder in a file's name is its class; labels
      are in the order of the class names.
    split: 'all', 'train' or 'validation', by a hash of the file's name.
    validation: share of the pictures that are held out, in [0, 1].
    held_out: a file with the names of the held-out pictures, one per line,
      which replaces the hash.
    max_broken: largest share of unreadable files; above it, reading fails.

  Raises:
    ValueError: if there is no picture, or an option is out of range.
  """
  if not path:
    raise ValueError("path = '' must name a folder, a .zip or a .tar")
  files = open_files(path)
  places = split_places(
    files.names, split, validation=validation, held_out=held_out
  )
  labels, classes = labels_of(files.names) if by_class else (None, [])
  named = Named(
    files,
    [files.names[place] for place in places],
    None if labels is None else labels[places],
  )
  spec = DataSpec.labelled((size, size, channels), len(classes), classes)
  return Pictures(named, spec, resize=resize, max_broken=max_broken)


def labels_of(names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
  """(labels int32 [n], class names) of all pictures.

  Raises:
    ValueError: if a picture is not in a folder.
  """
  for name in names:
    if '/' not in name:
      raise ValueError(
        f'by_class = True must be False, as {name!r} is not in a folder of its '
        'class'
      )
  folders = [name.split('/')[0] for name in names]
  label = {name: k for k, name in enumerate(sorted(set(folders)))}
  labels = [label[folder] for folder in folders]
  return np.asarray(labels, np.int32), [*label]


class Named:
  """Some of the files, in the order of their names (see `Encoded`).

  Args:
    files: of the folder or archive.
    names: of those that are used, in order.
    labels: int32 [n], None without classes.
  """

  def __init__(
    self, files: Files, names: Sequence[str], labels: np.ndarray | None
  ):
    self.files, self.names, self.labels = files, names, labels

  def __len__(self) -> int:
    return len(self.names)

  def name(self, place: int) -> str:
    """The name of a file, with / between folders."""
    return self.names[place]

  def read(self, place: int) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a file, and its label if there are classes."""
    return self.files.read(self.names[place]), self.conditions(place)

  def conditions(self, places: Any) -> dict[str, Any]:
    """The labels of the files at `places`, if there are classes."""
    return {} if self.labels is None else {LABEL: self.labels[places]}
