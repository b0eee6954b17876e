"""Images in an .npz or .npy file, uint8 or as `--job=generate` writes them."""

import math
import pathlib
from collections.abc import Collection, Iterable

import numpy as np

from flowdistill.datasets.array_files import X0
from flowdistill.files.generated import ours
from flowdistill.files.npz import map_npy, read_npz
from flowdistill.flow.pixels import to_uint8

KEYS = ('arr_0', 'images', 'samples', X0)
"""Names that images have in an .npz: of ADM's files, of others, and of ours."""
CHANNELS = (1, 3)
AT_ONCE = 2**22  # numbers that are checked and rounded at once
STATISTICS = ({'mu', 'sigma'}, {'mu_s', 'sigma_s'}, {'mean', 'covariance'})


def read_image_npz(path: pathlib.Path) -> tuple[str, np.ndarray]:
  """(name, images uint8 [n, h, w, 1 or 3]) of an .npz.

  Raises:
    ValueError: if it has not one array of images (`KEYS`), or as
      `checked_images`.
  """
  (found,) = read_npz(path, _choose).items()
  name, array = found
  listed = ours(path.parent)
  return name, checked_images(name, array, generated=path.name in listed)


def map_image_npy(path: pathlib.Path) -> np.ndarray:
  """The images of an .npy, memory-mapped, uint8 [n, h, w, 1 or 3].

  Raises:
    ValueError: as `checked_images`.
  """
  return checked_images('the array', map_npy(path))


def checked_images(
  name: str, array: np.ndarray, *, generated: bool = False
) -> np.ndarray:
  """Images as uint8 [n, h, w, 1 or 3].

  Args:
    name: of the array, in errors.
    array: of uint8, which is returned as it is; or float32 of the name x0 in
      [-1, 1], which is rounded as in the PNG files of `--job=generate`.
    generated: whether that job wrote it: its values may lie outside of
      [-1, 1], and are clipped as in its PNG files.

  Raises:
    ValueError: for another shape or dtype, or other values.
  """
  kind = f'{name} = {array.dtype} {[*array.shape]}'
  _check_shape(kind, array.shape)
  if array.dtype == np.uint8:
    return array
  if name != X0 or array.dtype.newbyteorder('=') != np.float32:
    raise ValueError(
      f'{kind} must be uint8: nothing says which of its values are black and '
      f'white. Only float32 in [-1, 1] under the name {X0!r}, as '
      '--job=generate writes it, is rounded'
    )
  _check_values(kind, array, math.inf if generated else 1.0)
  pixels = np.empty(array.shape, np.uint8)
  for rows in _blocks(array):
    pixels[rows] = to_uint8(array[rows])
  return pixels


def check_count(count: int) -> None:
  """Refuses a set of fewer than two images.

  Raises:
    ValueError: saying what is needed.
  """
  if count < 2:
    raise ValueError(
      f'a set of images must have at least two, and it has {count}: figures '
      'are of sets'
    )


def _choose(present: list[str]) -> Iterable[str]:
  names = [name for name in KEYS if name in present]
  if len(names) == 1:
    return names
  listed = ', '.join(map(repr, present)) or 'none'
  if names:
    raise ValueError(
      f'it must have one array of images, and it has {len(names)}: '
      f'{", ".join(map(repr, names))}; save the right one alone'
    )
  if is_statistics(present):
    raise ValueError(
      'it has statistics of features and no images: it can be what others are '
      f'measured against, not what is measured; its arrays are {listed}'
    )
  raise ValueError(
    f'it must have images under one of the names {", ".join(map(repr, KEYS))}; '
    f'its arrays are {listed}'
  )


def is_statistics(names: Collection[str]) -> bool:
  """Whether an .npz with arrays of these names has statistics of features."""
  return any(pair <= {*names} for pair in STATISTICS)


def _check_shape(kind: str, shape: tuple[int, ...]) -> None:
  wanted = 'must be [n, h, w, 1 or 3]'
  if len(shape) == 3:
    last = shape[-1] in CHANNELS
    hint = (
      'x[None] if it is one image' if last else 'x[..., None] if it is grey'
    )
    raise ValueError(f'{kind} {wanted}: save {hint}')
  if len(shape) != 4:
    raise ValueError(f'{kind} {wanted}')
  if 0 in shape:
    raise ValueError(f'{kind} {wanted}, and has no pixels')
  check_count(shape[0])
  if shape[-1] in CHANNELS:
    return
  hint = ''
  if shape[1] in CHANNELS:
    hint = '; if it is [n, c, h, w], save x.transpose(0, 2, 3, 1)'
  elif shape[-1] in (2, 4):
    hint = ': composite the images on white first, without their alpha channel'
  raise ValueError(f'{kind} {wanted}{hint}')


def _check_values(kind: str, x: np.ndarray, most: float) -> None:
  """Refuses values that are no numbers, or of another range."""
  count, first, low, high = 0, None, math.inf, -math.inf
  for rows in _blocks(x):
    block = x[rows]
    size = np.abs(block)
    right = (size <= most) & (size < math.inf)
    if not right.all():
      if first is None:
        start = np.unravel_index(int(np.argmin(right)), right.shape)
        first = [rows.start + int(start[0]), *map(int, start[1:])]
      count += right.size - int(np.count_nonzero(right))
    low, high = min(low, float(block.min())), max(high, float(block.max()))
  if first is not None:
    wanted = 'finite' if most == math.inf else 'in [-1, 1]'
    value = float(x[tuple(first)])
    raise ValueError(
      f'{kind}: {count:,} of {x.size:,} values are not {wanted}, the first at '
      f'{first}, which is {value:g}'
    )
  if most == 1 and low >= 0 < high:
    raise ValueError(
      f'{kind} has values from {low:g} to {high:g}, and must have them in '
      '[-1, 1]: if black is 0, save uint8'
    )


def _blocks(x: np.ndarray) -> Iterable[slice]:
  rows = max(1, AT_ONCE // math.prod(x.shape[1:]))
  return (slice(k, min(k + rows, len(x))) for k in range(0, len(x), rows))
