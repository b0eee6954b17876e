"""The orthogonal transform of patches."""

import numpy as np
import pytest

from flowdistill.autoencoders import SPACES, patch_dct, pixels
from flowdistill.autoencoders.patches import dct


def images(shape):
  return np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)


@pytest.mark.parametrize('patch', [1, 2, 4])
@pytest.mark.parametrize('scale', [1.0, 0.5])
def test_it_is_orthogonal_times_its_scale(patch, scale):
  x = images((8, 4, 3))
  space = patch_dct((8, 4, 3), patch=patch, scale=scale)
  z = np.asarray(space.encode(x))
  assert z.shape[1:] == space.shape == (8 // patch, 4 // patch, 3 * patch**2)
  norms = (np.sum(a**2, axis=(1, 2, 3)) for a in (z, scale * x))
  np.testing.assert_allclose(*norms, rtol=1e-5)
  np.testing.assert_allclose(space.decode(z), x, atol=1e-5)


def test_a_patch_becomes_its_frequencies():
  """The first is the mean, of a flat patch the only one."""
  x = np.full((1, 4, 4, 1), 0.25, np.float32)
  z = np.asarray(patch_dct((4, 4, 1), patch=2).encode(x))
  np.testing.assert_allclose(z[..., 0], 0.5, atol=1e-6)
  np.testing.assert_allclose(z[..., 1:], 0, atol=1e-6)
  np.testing.assert_allclose(dct(5) @ dct(5).T, np.eye(5), atol=1e-6)


def test_pixels_are_the_pictures_themselves():
  x = images((2,))
  space = pixels((2,))
  assert space.encode(x) is x
  assert space.decode(x) is x
  assert SPACES['pixels'] is pixels


@pytest.mark.parametrize(
  ('shape', 'options', 'message'),
  [
    ((2,), {}, 'takes images'),
    ((8, 6, 1), {'patch': 4}, 'patch = 4 must divide 8 x 6'),
    ((8, 8, 1), {'patch': 0}, 'patch = 0 must divide'),
    ((8, 8, 1), {'scale': 0.0}, 'scale = 0.0 must be above 0'),
  ],
)
def test_what_cannot_be_is_refused(shape, options, message):
  with pytest.raises(ValueError, match=message):
    patch_dct(shape, **options)
