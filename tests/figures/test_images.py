"""Images as files."""

import numpy as np
import pytest
from PIL import Image

from flowdistill.figures import images
from flowdistill.figures.images import Grid, is_images, pixels

RNG = np.random.default_rng(0)


def test_the_range_is_clipped():
  x = np.array([-9.0, -1, 0, 1, 9]).reshape(1, 1, 5, 1)
  np.testing.assert_array_equal(pixels(x)[0, 0], [0, 0, 128, 255, 255])


def page_of(path, x, *parts):
  """The grid of images that are added in parts."""
  grid = Grid(path / 'grid.png', len(x), x.shape[1:])
  for part in np.split(x, parts):
    grid.add(part)
  grid.close()
  return np.asarray(Image.open(path / 'grid.png'))


@pytest.mark.parametrize('parts', [(), (2,), (1, 3, 4)])
def test_a_grid_has_them_in_the_order_of_reading(tmp_path, parts):
  """Five are in two rows of three, and the last place is white."""
  x = np.linspace(-1, 0.5, 5)[:, None, None, None] * np.ones((1, 4, 4, 1))
  page = page_of(tmp_path, x, *parts)
  assert page.shape == (10, 16)
  middles = page[1::6, 1::6].reshape(-1)
  np.testing.assert_array_equal(middles, [*pixels(x)[:, 0, 0], 255])


@pytest.mark.parametrize('channels', [1, 3])
def test_a_grid_of_many_has_the_first(tmp_path, monkeypatch, channels):
  x = RNG.uniform(-1, 1, (7, 4, 5, channels))
  whole = page_of(tmp_path, x[:4])
  monkeypatch.setattr(images, 'LARGEST', 4 * 6 * 7 + 5)
  np.testing.assert_array_equal(page_of(tmp_path, x, 3), whole)
  monkeypatch.setattr(images, 'LARGEST', 1)
  np.testing.assert_array_equal(page_of(tmp_path, x, 3), pixels(x)[0])


def test_points_are_no_images():
  assert is_images((3, 4, 4, 1))
  assert not is_images((3, 2))
  assert not is_images((3, 4, 4, 2))
