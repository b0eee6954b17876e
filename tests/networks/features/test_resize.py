"""Resizing to the last digit: formulas, Pillow, and what others run."""

import numpy as np
import pytest
from PIL import Image

from flowdistill.networks.features.resize import (
  RESIZES,
  pil_bicubic,
  pil_cropped,
  pil_rounded,
  tf_bilinear,
)

SIZES = [(32, 32), (17, 40), (64, 50), (299, 299), (1, 3), (350, 320)]


def images(h, w, n=2):
  return np.random.default_rng(h).integers(0, 256, (n, h, w, 3), np.uint8)


def bilinear_of_a_pixel(x, i, j, side):
  """TensorFlow's loop: all numbers float32, corners not aligned."""
  f = np.float32

  def ends(k, n):
    place = f(k) * (f(n) / f(side))
    low = int(np.floor(place))
    return low, min(low + 1, n - 1), place - f(low)

  top, bottom, down = ends(i, x.shape[0])
  left, right, across = ends(j, x.shape[1])
  a, b, c, d = (x[r, q].astype(f) for r in (top, bottom) for q in (left, right))
  upper, lower = a + (b - a) * across, c + (d - c) * across
  return upper + (lower - upper) * down


@pytest.mark.parametrize('size', SIZES)
def test_bilinear_is_tensorflows_to_the_last_digit(size):
  x = images(*size)
  found = tf_bilinear(x, 29)
  assert found.dtype == np.float32
  for i in range(0, 29, 3):
    for j in range(29):
      expected = bilinear_of_a_pixel(x[1], i, j, 29)
      np.testing.assert_array_equal(found[1, i, j], expected)


def test_bilinear_by_hand():
  """A pixel that is doubled: the last has no neighbour, and is repeated."""
  x = np.array([0, 10], np.float32).reshape(1, 1, 2, 1)
  found = tf_bilinear(x, 4)[0, 0, :, 0]
  np.testing.assert_array_equal(found, [0, 5, 10, 10])


def test_bilinear_is_torch_fidelitys_to_the_last_digit():
  torch = pytest.importorskip('torch')
  theirs = pytest.importorskip('torch_fidelity.interpolate_compat_tensorflow')
  for size in SIZES:
    x = images(*size)
    channels_first = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).float()
    expected = theirs.interpolate_bilinear_2d_like_tensorflow1x(
      channels_first, size=(299, 299), align_corners=False
    )
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(tf_bilinear(x, 299), expected)


def bicubic_weights(n, side):
  """[side, n] of the filter with a = −1/2, widened where it reduces."""
  scale = n / side
  widening = max(scale, 1.0)
  rows = np.zeros((side, n))
  for i in range(side):
    centre = (i + 0.5) * scale
    first = max(int(centre - 2 * widening + 0.5), 0)
    last = min(int(centre + 2 * widening + 0.5), n)
    at = np.abs(np.arange(first, last) - centre + 0.5) / widening
    near = (1.5 * at - 2.5) * at**2 + 1
    far = ((-0.5 * at + 2.5) * at - 4) * at + 2
    taps = np.where(at < 1, near, np.where(at < 2, far, 0))
    rows[i, first:last] = taps / taps.sum()
  return rows


@pytest.mark.parametrize('size', SIZES)
def test_bicubic_is_pillows_formula(size):
  """In float64, with each of the two passes rounded to float32."""
  x = images(*size, n=1)
  found = pil_bicubic(x, 31)
  across = np.einsum(
    'jw,hwc->hjc', bicubic_weights(size[1], 31), x[0].astype(float)
  )
  down = np.einsum(
    'ih,hjc->ijc',
    bicubic_weights(size[0], 31),
    across.astype('f4').astype(float),
  )
  expected = down.astype(np.float32).clip(0, 255)
  # Pillow's float64 sums differ in order: at most the last digit.
  np.testing.assert_array_max_ulp(found[0] + 1, expected + 1, 1)


def test_bicubic_is_clean_fids():
  resize = pytest.importorskip('cleanfid.resize')
  for size in SIZES:
    x = images(*size)
    clean = resize.build_resizer('clean')
    expected = np.stack([clean(image) for image in x])
    np.testing.assert_array_equal(pil_bicubic(x, 299), expected)


def test_rounded_is_pillow_on_whole_images():
  x = images(40, 50)
  expected = Image.fromarray(x[1]).resize((24, 24), Image.Resampling.BICUBIC)
  np.testing.assert_array_equal(pil_rounded(x, 24)[1], np.asarray(expected))


@pytest.mark.parametrize('size', [(40, 61), (61, 40), (30, 30), (10, 33)])
def test_cropped_is_the_centre(size):
  torchvision = pytest.importorskip('torchvision.transforms')
  x = images(*size)
  bicubic = torchvision.InterpolationMode.BICUBIC
  steps = torchvision.Compose(
    [torchvision.Resize(24, interpolation=bicubic), torchvision.CenterCrop(24)]
  )
  for found, image in zip(pil_cropped(x, 24), x, strict=True):
    expected = np.asarray(steps(Image.fromarray(image)))
    np.testing.assert_array_equal(found, expected)


def test_the_crop_is_of_the_middle():
  x = np.zeros((1, 8, 24, 3), np.uint8)
  x[:, :, 8:16] = 200
  np.testing.assert_array_equal(pil_cropped(x, 8), np.full((1, 8, 8, 3), 200))
  turned = x.transpose(0, 2, 1, 3)
  np.testing.assert_array_equal(pil_cropped(turned, 8), pil_cropped(x, 8))


@pytest.mark.parametrize('name', RESIZES)
def test_images_of_the_right_size_stay(name):
  x = images(32, 32)
  found = RESIZES[name](x, 32)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize('resize', [pil_rounded, pil_cropped])
def test_rounded_ones_refuse_floats(resize):
  with pytest.raises(ValueError, match='dtype float32; .* needs uint8'):
    resize(images(8, 8).astype(np.float32), 4)
