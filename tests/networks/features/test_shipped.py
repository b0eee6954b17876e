"""Features of images that are larger than the network's."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowdistill.networks.features.shipped import digits, shrink

DIGITS = (load_digits().images[:50] / 8 - 1).astype(np.float32)[..., None]


def test_of_larger_pixels_they_are_the_same():
  features = digits()
  larger = DIGITS.repeat(4, axis=1).repeat(4, axis=2)
  smaller, large = (features.apply((), x) for x in (DIGITS, larger))
  for kind, small in smaller.items():
    np.testing.assert_allclose(large[kind], small, rtol=1e-5, atol=1e-4)


def test_shrinking_takes_the_means_of_squares():
  x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
  found = shrink(x, 3)
  assert found.shape == (2, 3, 3, 3)
  np.testing.assert_allclose(found[1, 2, 0], x[1, 4:, :2].mean((0, 1)))


@pytest.mark.parametrize('shape', [(1, 4, 4, 1), (1, 12, 12, 1), (1, 8, 16, 1)])
def test_images_without_such_squares_are_refused(shape):
  with pytest.raises(ValueError, match='images of 8 x 8 or a multiple of it'):
    shrink(np.zeros(shape), 8)
