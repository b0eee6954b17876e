"""How images come to the size of a feature network; a figure depends on it.

  tf_bilinear  of TensorFlow 1, by which FID is defined: new pixel i lies at
               i · old / new, and no filter precedes a reduction
  pil_bicubic  of Pillow, per channel in float32, with a filter when it reduces
               (clean-fid), clipped to [0, 255]
  pil_rounded  the same of 8-bit images, rounded again to 8 bits
  pil_cropped  as CLIP does: the shorter side is resized, 8-bit, and the centre
               cropped

Source: `resize_bilinear_op.cc` of TensorFlow; Parmar et al., "On Aliased
Resizing and Surprising Subtleties in GAN Evaluation" (2021),
https://arxiv.org/abs/2104.11222.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image


def tf_bilinear(images: np.ndarray, side: int) -> np.ndarray:
  """ResizeBilinear of TensorFlow 1, in the order of its float32 operations.

  NumPy rounds each of them; XLA would fuse some, which changes the last digit.

  Args:
    images: uint8 or float [b, h, w, c].
    side: height and width of the result.

  Returns:
    float32 [b, side, side, c].
  """
  x = np.asarray(images, np.float32)
  for axis in (2, 1):  # along the rows first
    length = x.shape[axis]
    place = np.arange(side, dtype=np.float32) * np.float32(length / side)
    low = place.astype(np.intp)
    high = np.minimum(low + 1, length - 1)
    shape = [1] * x.ndim
    shape[axis] = side
    part = (place - low.astype(np.float32)).reshape(shape)
    here, there = x.take(low, axis), x.take(high, axis)
    there -= here
    there *= part
    there += here
    x = there
  return x


def pil_bicubic(images: np.ndarray, side: int) -> np.ndarray:
  """Pillow's bicubic of each channel in float32, as clean-fid.

  Args and returns are those of `tf_bilinear`.
  """
  x = np.asarray(images, np.float32)
  planes = x.transpose(0, 3, 1, 2).reshape(-1, *x.shape[1:3])
  new = np.stack([_bicubic(plane, (side, side)) for plane in planes])
  new = new.clip(0, 255).reshape(len(x), x.shape[-1], side, side)
  return np.ascontiguousarray(new.transpose(0, 2, 3, 1))


def pil_rounded(images: np.ndarray, side: int) -> np.ndarray:
  """Pillow's bicubic of 8-bit images, [b, h, w, 3], rounded to integers."""
  new = [_bicubic(image, (side, side)) for image in _bytes(images)]
  return np.stack(new).astype(np.float32)


def pil_cropped(images: np.ndarray, side: int) -> np.ndarray:
  """The central square of `pil_rounded` at the scale of the shorter side."""
  images = _bytes(images)
  height, width = images.shape[1:3]
  shorter = min(height, width)
  size = (side * width // shorter, side * height // shorter)
  left, top = (round((n - side) / 2) for n in size)
  new = np.stack([_bicubic(image, size) for image in images])
  return new[:, top : top + side, left : left + side].astype(np.float32)


def _bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """[h, w] float32 or [h, w, 3] uint8 -> the same of size (width, height)."""
  new = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
  return np.asarray(new)


def _bytes(images: np.ndarray) -> np.ndarray:
  """Raises ValueError if images are not uint8."""
  images = np.asarray(images)
  if images.dtype != np.uint8:
    raise ValueError(
      f'the images have the dtype {images.dtype}; this resize needs uint8'
    )
  return images


RESIZES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
  'tf_bilinear': tf_bilinear,
  'pil_bicubic': pil_bicubic,
  'pil_rounded': pil_rounded,
  'pil_cropped': pil_cropped,
}
