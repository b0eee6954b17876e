"""Pictures of a folder or an archive, read when they are asked for."""

from collections.abc import Sequence

import numpy as np

from flowdistill.datasets.files import Files, open_files
from flowdistill.datasets.pictures import Pictures
from flowdistill.datasets.split import chosen


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
  """Pictures of a folder, with all below it, or of a .zip or .tar.

  Args:
    path: of it.
    size: of the square that is made of a picture, in pixels.
    channels: 3 for colours, 1 for grey.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    by_class: whether the first folder in a name is its class; classes are
      numbered in the order of their names.
    split: 'all', 'train' or 'validation'; by a hash of the name.
    validation: share of the pictures that are held out, in [0, 1].
    held_out: a file with the names of the validation pictures, one a line, in
      place of the hash.
    max_broken: share of files that may be broken before it is an error.

  Raises:
    ValueError: if there is no picture, or an option is out of range.
  """
  if not path:
    raise ValueError("path = '' must name a folder, a .zip or a .tar")
  files = open_files(path)
  places = chosen(files.names, split, validation=validation, held_out=held_out)
  labels, classes = classes_of(files.names) if by_class else (None, 0)
  return Pictures(
    Named(
      files,
      [files.names[place] for place in places],
      None if labels is None else labels[places],
    ),
    classes,
    size=size,
    channels=channels,
    resize=resize,
    max_broken=max_broken,
  )


def classes_of(names: Sequence[str]) -> tuple[np.ndarray, int]:
  """(labels int32 [n], number of classes) of all pictures.

  Raises:
    ValueError: if a picture lies in no folder.
  """
  for name in names:
    if '/' not in name:
      raise ValueError(f'by_class = True, and {name!r} is in no folder')
  folders = [name.split('/')[0] for name in names]
  number = {name: k for k, name in enumerate(sorted(set(folders)))}
  labels = [number[folder] for folder in folders]
  return np.asarray(labels, np.int32), len(number)


class Named:
  """Some of the files, in the order of their names (see `Encoded`).

  Args:
    files: where the bytes come from.
    names: of these, in order.
    labels: int32 [n], None for none.
  """

  def __init__(
    self, files: Files, names: Sequence[str], labels: np.ndarray | None
  ):
    self.files, self.names, self.labels = files, names, labels

  def __len__(self) -> int:
    return len(self.names)

  def name(self, place: int) -> str:
    """Of a file, with / between folders."""
    return self.names[place]

  def read(self, place: int) -> tuple[bytes, int]:
    """What is in a file, and its class; 0 without classes."""
    label = 0 if self.labels is None else int(self.labels[place])
    return self.files.read(self.names[place]), label
