"""Samples as files, written batch by batch: memory does not grow with them."""

import contextlib
import pathlib
import zipfile
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from flowdistill.figures.images import Grid, is_images, pixels

FORMS = ('npz', 'png', 'grid')


class Writer(Protocol):
  """Takes samples [b, ...] in their order."""

  def add(self, x: np.ndarray, /) -> None: ...
  def close(self) -> None: ...


class Rows:
  """An .npz with one array, as `np.savez` writes it, whose rows come in parts.

  Args:
    path: of the .npz.
    name: of the array.
    shape: of the whole array.
    dtype: of the array.
  """

  def __init__(
    self, path: pathlib.Path, name: str, shape: tuple[int, ...], dtype: Any
  ):
    self.archive = zipfile.ZipFile(path, 'w')
    self.member = self.archive.open(f'{name}.npy', 'w', force_zip64=True)
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
      self.member, {'descr': descr, 'fortran_order': False, 'shape': shape}
    )

  def add(self, x: np.ndarray) -> None:
    """Appends rows [b, ...]."""
    self.member.write(x.tobytes())

  def close(self) -> None:
    """Completes the file."""
    self.member.close()
    self.archive.close()


class Pictures:
  """A PNG for each image, 00000.png, ...; x is [b, h, w, 1 or 3] in [−1, 1]."""

  def __init__(self, folder: pathlib.Path):
    self.folder, self.count = folder, 0

  def add(self, x: np.ndarray) -> None:
    """Writes the next ones."""
    for image in pixels(x):
      Image.fromarray(image).save(self.folder / f'{self.count:05d}.png')
      self.count += 1

  def close(self) -> None:
    """Nothing is left to be done."""


def write_samples(
  folder: pathlib.Path,
  n: int,
  batches: Iterable[np.ndarray],
  forms: Sequence[str],
) -> Generator[int]:
  """Writes n samples, and yields after each batch how many are done.

  Args:
    folder: of the files.
    n: number of samples.
    batches: float32 [b, ...], n in all.
    forms: of FORMS: samples.npz with x0 [n, ...]; of images also 00000.png, ...
      and grid.png. Other samples have no pictures.
  """
  writers: list[Writer] = []
  done = 0
  with contextlib.ExitStack() as files:
    for x in batches:
      if not done:
        writers = [_writer(form, folder, n, x) for form in kept(forms, x.shape)]
        for writer in writers:
          files.callback(writer.close)
      for writer in writers:
        writer.add(x)
      done += len(x)
      yield done


def kept(forms: Sequence[str], shape: tuple[int, ...]) -> list[str]:
  """The forms that samples [n, ...] can have, each once."""
  return [
    form
    for form in FORMS
    if form in forms and (form == 'npz' or is_images(shape))
  ]


def file_names(
  n: int, forms: Sequence[str], shape: tuple[int, ...]
) -> dict[str, int]:
  """What is written, for `workdir.swap.mark`."""
  named = {
    'npz': ('samples.npz', 1),
    'png': ('.png', n),
    'grid': ('grid.png', 1),
  }
  return dict(named[form] for form in kept(forms, shape))


def _writer(form: str, folder: pathlib.Path, n: int, x: np.ndarray) -> Writer:
  if form == 'npz':
    return Rows(folder / 'samples.npz', 'x0', (n, *x.shape[1:]), x.dtype)
  if form == 'png':
    return Pictures(folder)
  return Grid(folder / 'grid.png', n, x.shape[1:])
