"""Files that hold x0 and its labels, and the names of both in them."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable

import numpy as np
from absl import logging

from flowdistill.files.npz import map_npy, read_npz
from flowdistill.files.paths import expand
from flowdistill.flow.spec import LABEL

X0 = 'x0'
LABELS = re.compile(
  r'label|class|target|categor|(^|[^a-z])(y|cls|gt)([^a-z]|$)', re.IGNORECASE
)
"""What is in the names that labels have in the files of others."""


@dataclasses.dataclass(frozen=True)
class Names:
  """Where x0 and the labels are.

  Attributes:
    path: of an .npz or .npy.
    x0: name of x0 in an .npz.
    label: name of the labels in an .npz, or path of an .npy; None is 'label' in
      an .npz and no labels for an .npy.
    by_class: whether labels are read.
  """

  path: str
  x0: str
  label: str | None
  by_class: bool

  def __post_init__(self) -> None:
    if self.where.suffix.lower() not in ('.npz', '.npy'):
      raise ValueError(f'path = {self.path!r} must end in .npz or .npy')
    if self.label is not None and not self.by_class:
      raise ValueError(f'label = {self.label!r} needs by_class = True')
    if not self.packed and self.x0 != X0:
      raise ValueError(f'x0 = {self.x0!r} has no effect: an .npy has no names')

  @property
  def where(self) -> pathlib.Path:
    """The file of x0."""
    return expand(self.path, f'path = {self.path!r}')

  @property
  def packed(self) -> bool:
    """Whether it is an .npz."""
    return self.where.suffix.lower() == '.npz'

  def stamps(self) -> tuple[tuple[int, int], ...]:
    """(modification time, size) of each file: others mean that it has changed.

    Raises:
      ValueError: if a file does not exist.
    """
    files = {'path': self.path}
    if self.label is not None and not self.packed:
      files['label'] = self.label
    return tuple(_stamp(name, file) for name, file in files.items())

  def read(self) -> tuple[np.ndarray, np.ndarray | None]:
    """(x0, labels or None), unchecked.

    Raises:
      ValueError: if a file cannot be read, or lacks an array.
    """
    if self.packed:
      members = read_npz(self.where, self._choose)
      return members[self.x0], members.get(self.label or LABEL)
    if self.label is None:
      return map_npy(self.where), None
    labels = expand(self.label, f'label = {self.label!r}')
    return map_npy(self.where), map_npy(labels)

  def _choose(self, present: list[str]) -> Iterable[str]:
    """The names of an .npz to read; says which are not."""
    wanted = [self.x0, self.label or LABEL][: 1 + self.by_class]
    listed = ', '.join(map(repr, present))
    if not present:
      raise ValueError(f'path = {self.path!r} has no arrays')
    if self.x0 not in present:
      raise ValueError(
        f'x0 = {self.x0!r} must be one of {listed}, the arrays of {self.path}'
      )
    if self.label is not None and self.label not in present:
      raise ValueError(
        f'label = {self.label!r} must be one of {listed}, the arrays of '
        f'{self.path}'
      )
    labels = [n for n in present if n != self.x0 and LABELS.search(n)]
    if self.by_class and labels and wanted[1] not in present:
      raise ValueError(
        f'path = {self.path!r} has no array {LABEL!r}, but {labels[0]!r}: set '
        f'label = {labels[0]!r}, or by_class = False to train without classes'
      )
    unread = [name for name in present if name not in wanted]
    if unread:
      logging.warning(
        '%s: the arrays %s are not read; label names those of the classes',
        self.path,
        ', '.join(unread),
      )
    return [name for name in wanted if name in present]


def _stamp(name: str, path: str) -> tuple[int, int]:
  where = expand(path, f'{name} = {path!r}')
  if not where.exists():
    hint = '; of an .npy it is the path of another .npy' * (name == 'label')
    raise ValueError(f'{name} = {path!r} does not exist{hint}')
  if not where.is_file():
    raise ValueError(f'{name} = {path!r} must be a file')
  status = where.stat()
  return status.st_mtime_ns, status.st_size
