"""Images as files."""

import numpy as np
import pytest
from PIL import Image

from flowdistill.figures.images import (
  is_images,
  pixels,
  write_grid,
  write_images,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('channels', [1, 3])
def test_what_is_written_is_read(tmp_path, channels):
  x = RNG.uniform(-1, 1, (3, 4, 5, channels))
  write_images(tmp_path, x)
  for i, expected in enumerate(pixels(x)):
    found = np.asarray(Image.open(tmp_path / f'{i:05d}.png'))
    np.testing.assert_array_equal(found, expected)


def test_the_range_is_clipped():
  x = np.array([-9.0, -1, 0, 1, 9]).reshape(1, 1, 5, 1)
  np.testing.assert_array_equal(pixels(x)[0, 0], [0, 0, 128, 255, 255])


def test_a_grid_has_them_in_the_order_of_reading(tmp_path):
  """Five are in two rows of three, and the last place is white."""
  x = np.linspace(-1, 0.5, 5)[:, None, None, None] * np.ones((1, 4, 4, 1))
  write_grid(tmp_path / 'grid.png', x)
  page = np.asarray(Image.open(tmp_path / 'grid.png'))
  assert page.shape == (10, 16)
  middles = page[1::6, 1::6].reshape(-1)
  np.testing.assert_array_equal(middles, [*pixels(x)[:, 0, 0], 255])


def test_points_are_no_images():
  assert is_images((3, 4, 4, 1))
  assert not is_images((3, 2))
  assert not is_images((3, 4, 4, 2))
