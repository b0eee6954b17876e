"""Files of named arrays, read so that none of them can execute code."""

import pathlib
import re
import textwrap
import zipfile
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError

from flowdistill.convert import kinds, pickles
from flowdistill.convert.names import check_once
from flowdistill.convert.pickles import Choose, Inform
from flowdistill.convert.safetensors_files import stored_tensors
from flowdistill.convert.snapshots import read_snapshot
from flowdistill.files.flax_tree import read_flax

Arrays = dict[str, np.ndarray]
WIDEST = 2**26, 20
"""Arrays of .npz have at most so many bytes, and so many times those of the
file, together: a compressed one may expand a thousand times."""
NPY = b'\x93NUMPY'  # first bytes


def read_chosen(
  path: pathlib.Path, choose: Choose, inform: Inform | None = None
) -> Arrays:
  """The weights of a file whose names `choose` selects.

  Floats of 8 to 64 bits, bfloat16 too, are returned as they are: weights are
  read as float32. A float8 with a scale beside it is refused, as are integers,
  complex numbers, and quantised and sparse tensors.

  Args:
    path: of a .safetensors or .npz file, one of PyTorch's, a snapshot, or a
      msgpack of Flax; no pickle is executed (see `pickles.py`); by its content,
      whatever its name.
    choose: names -> those whose arrays are read.
    inform: see `pickles.read_zipped`.

  Raises:
    ValueError: if there is no such file, or it is of another kind or damaged,
      or an array is not of finite floats; it names the file.
  """
  kind, present = kinds.kind_of(path), list[str]()

  def chosen(names: list[str]) -> list[str]:
    present.extend(names)
    taken = set(choose(names))
    return [name for name in names if name in taken]

  try:
    if kind in PICKLED:
      arrays = PICKLED[kind](path, chosen, inform)
    else:
      arrays = READERS[kind](path, chosen)
  except (*kinds.BROKEN, SafetensorError) as error:
    what = textwrap.shorten(str(error), 500) or type(error).__name__
    if isinstance(error, SafetensorError):
      what = f'it is cut short or damaged: {what}'
    raise ValueError(f'{path} cannot be read as {kind}: {what}') from error
  for name, array in arrays.items():
    _check_numbers(path, name, array, present)
  return arrays


def _read_safetensors(path: pathlib.Path, choose: Choose) -> Arrays:
  """By the header: safetensors' NumPy reader lacks bfloat16 and float8."""
  stored = stored_tensors(path)
  return {name: stored[name].read() for name in choose(list(stored))}


def _read_npz(path: pathlib.Path, choose: Choose) -> Arrays:
  with zipfile.ZipFile(path) as archive:
    sizes = {e.filename: e.file_size for e in archive.infolist()}
    check_once(archive.namelist())
    names = choose([name.removesuffix('.npy') for name in sizes])
    total = sum(sizes[f'{name}.npy'] for name in names)
    most = WIDEST[0] + WIDEST[1] * path.stat().st_size
    if total > most:
      raise ValueError(
        f'its arrays have {total} bytes, and must have at most {most} for its '
        'size: they are compressed too much'
      )
    return {name: _read_npy(archive, name) for name in names}


def _read_npy(archive: zipfile.ZipFile, name: str) -> np.ndarray:
  with archive.open(f'{name}.npy') as file, np.errstate(all='ignore'):
    if file.read(len(NPY)) != NPY:
      raise ValueError(f'{name} is not an array')
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):  # which also compares the checksum
      raise ValueError(f'{name} has more bytes than its header says')
    return array


def _read_zipped(
  path: pathlib.Path, choose: Choose, inform: Inform | None
) -> Arrays:
  with zipfile.ZipFile(path) as archive:
    size = path.stat().st_size
    return pickles.read_zipped(archive, size, choose, inform)


def _read_legacy(
  path: pathlib.Path, choose: Choose, inform: Inform | None
) -> Arrays:
  with path.open('rb') as file:
    return pickles.read_legacy(file, choose, inform)


def _read_snapshot(
  path: pathlib.Path, choose: Choose, inform: Inform | None
) -> Arrays:
  with path.open('rb') as file:
    return read_snapshot(file, choose, inform)


READERS = {
  kinds.SAFETENSORS: _read_safetensors,
  kinds.NPZ: _read_npz,
  kinds.FLAX: read_flax,
}
PICKLED = {
  kinds.ZIPPED: _read_zipped,
  kinds.LEGACY: _read_legacy,
  kinds.SNAPSHOT: _read_snapshot,
}


def _check_numbers(
  path: pathlib.Path, name: str, array: np.ndarray, present: Iterable[str]
) -> None:
  """Refuses an array unless it holds finite weights.

  Raises:
    ValueError: naming the file and the array.
  """
  kind = array.dtype
  if not jnp.issubdtype(kind, np.floating):
    raise ValueError(
      f'{path}: {name} has the type {kind}; weights must be floats of 8 to 64 '
      'bits, and integers that stand for floats must be converted first'
    )
  scales = [n for n in present if re.search(r'scale(?!r)', n)]
  if kind.itemsize == 1 and scales:
    raise ValueError(
      f'{path}: {name} has the type {kind}, and there are scales such as '
      f'{min(scales)}: multiply the weights by them first'
    )
  with np.errstate(over='ignore'):
    wrong = ~np.isfinite(array.astype(np.float32))
  if wrong.any():
    raise ValueError(
      f'{path}: {name} has {int(wrong.sum())} of {array.size} numbers that are '
      'NaN, infinite or too large for float32; weights must be finite'
    )
