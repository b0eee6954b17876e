"""Pictures of a folder or an archive, read when they are indexed."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.catalogue import SAID, counted
from flowdistill.datasets.classes import check_order, labels_of, natural
from flowdistill.datasets.decoders import Pixels
from flowdistill.datasets.files import Files
from flowdistill.datasets.listing import open_files
from flowdistill.datasets.pictures import Pictures
from flowdistill.datasets.split import split_places
from flowdistill.datasets.tree import Tree
from flowdistill.flow.spec import LABEL, DataSpec


def folder(
  *,
  path: str = '',
  size: int = 64,
  channels: int = 3,
  resize: str = 'centre_crop',
  buckets: Buckets | None = None,
  by_class: bool = False,
  class_order: str = 'text',
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
    buckets: shapes of about the area of the square, one for each batch of
      training (see `buckets.py`); None makes squares.
    by_class: whether the first folder in a file's name is its class; in an
      archive with one folder around all others, the second.
    class_order: of the class names, and thus of the labels: 'text', or
      'natural', in which 2 precedes 10.
    split: 'all', 'train' or 'validation', by a hash of the file's name.
    validation: share of the pictures that are held out, in [0, 1].
    held_out: a file with the names of the held-out pictures, one per line,
      which replaces the hash.
    max_broken: largest share of unreadable files; above it, reading fails.

  Raises:
    ValueError: if there is no picture, a folder cannot be read, an archive is
      cut or damaged, or an option is out of range.
  """
  if not path:
    raise ValueError("path = '' must name a folder, a .zip or a .tar")
  check_order(class_order)
  files = open_files(path)
  names = files.catalogue.names
  labels, classes = classes_of(files, class_order) if by_class else (None, [])
  say(f'{path!r}: {summary(files, classes)}')
  places = split_places(names, split, validation=validation, held_out=held_out)
  named = Named(
    files,
    [names[place] for place in places],
    None if labels is None else labels[places],
  )
  spec = DataSpec.labelled((size, size, channels), len(classes), classes)
  return Pictures(
    named, Pixels(spec, resize), max_broken=max_broken, buckets=buckets
  )


def classes_of(files: Files, order: str) -> tuple[np.ndarray, list[str]]:
  """(labels int32 [n], class names) of all pictures.

  A single folder around all others in an archive is looked through.

  Raises:
    ValueError: if a class is a link to another, a class may be missing as its
      files cannot be read, or as `labels_of`.
  """
  for link, other in files.catalogue.twins.items():
    if other and '/' not in link:
      raise ValueError(
        f'by_class = True: the class folder {link!r} is a link to {other!r}, '
        'whose pictures have a class already; remove one of the two'
      )
  archive = not isinstance(files, Tree)
  labels, classes = labels_of(
    files.catalogue.names, order=order, through=archive
  )
  for name in files.catalogue.unread:  # perhaps the pictures of a class
    if name.split('/')[0] in idle(files, classes):
      raise ValueError(
        f'by_class = True: {name!r} cannot be read, and nothing else in its '
        'folder is a picture; make it readable, or remove the folder'
      )
  return labels, classes


def idle(files: Files, classes: Sequence[str]) -> list[str]:
  """The folders beside those of the classes: there is no picture in them."""
  tops = files.catalogue.tops
  return [] if tops.isdisjoint(classes) else sorted(tops - {*classes})


def summary(files: Files, classes: Sequence[str]) -> str:
  """What is in a path, and what is left out, in a line."""
  text = files.catalogue.summary()
  if not classes:
    return text
  text += f'; {counted(len(classes), "class")}: {shortened(classes)}'
  return '; '.join([text, *notes(files, classes)])


def notes(files: Files, classes: Sequence[str]) -> Iterator[str]:
  """What may be unexpected in the classes."""
  names = files.catalogue.names
  if files.catalogue.tops.isdisjoint(classes):
    yield f'they are in {names[0].lstrip("/").split("/")[0]!r}'
  if none := idle(files, classes):
    yield f'no class, as there is no picture in it: {shortened(none)}'
  if len(classes) == 1:
    inner = {name.split('/')[1] for name in names if name.count('/') > 1}
    if len(inner) > 1:
      yield f'with the folders {shortened(sorted(inner))} in it'
  text = sorted(classes)
  if [*classes] == text != sorted(classes, key=natural):
    yield "class_order = 'natural' would sort their names by numbers"


def shortened(names: Sequence[str]) -> str:
  """The first names of a list."""
  more = ', ...' if len(names) > SAID else ''
  return ', '.join(map(repr, names[:SAID])) + more


@functools.lru_cache(maxsize=64)
def say(text: str) -> None:
  """Logs a line, once."""
  logging.info('%s', text)


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
