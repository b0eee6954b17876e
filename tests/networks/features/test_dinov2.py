"""DINOv2 against transformers' on random weights, and its positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.features.loading import (
  abstract,
  answers,
  assert_close,
  filled,
  of_torch,
  shapes_of,
)

from flowdistill.convert import dinov2 as names
from flowdistill.networks.features.dinov2 import (
  MEAN,
  STD,
  DINOv2,
  resize_positions,
)

TINY = {'width': 24, 'depth': 2, 'heads': 3, 'patch': 4, 'side': 5}


def make(**options):
  return DINOv2(**options, rngs=nnx.Rngs(0))


def images(side, n=2):
  rng = np.random.default_rng(0)
  return rng.uniform(0, 255, (n, side, side, 3)).astype(np.float32)


def bicubic_of_a_pixel(row, place):
  """Keys' cubic through four pixels, a = −0.75, edges repeated."""
  first, a = int(np.floor(place)), -0.75
  total = 0.0
  for k in range(first - 1, first + 3):
    d = abs(place - k)
    if d <= 1:
      weight = (a + 2) * d**3 - (a + 3) * d**2 + 1
    else:
      weight = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    total += weight * row[min(max(k, 0), len(row) - 1)]
  return total


@pytest.mark.parametrize('offset', [0.0, 0.1])
def test_positions_are_resized_as_the_formula_says(offset):
  row = np.random.default_rng(0).normal(size=37)
  grid = jnp.asarray(np.tile(row[:, None, None], (1, 37, 1)), jnp.float32)
  found = resize_positions(grid, 16, 16, offset=offset)
  scale = 37 / (16 + offset)
  places = [(i + 0.5) * scale - 0.5 for i in range(16)]
  expected = [bicubic_of_a_pixel(row, place) for place in places]
  np.testing.assert_allclose(found[:, 3, 0], expected, atol=1e-5)


def test_positions_are_resized_as_pytorch_does_by_scale_factors():
  torch = pytest.importorskip('torch')
  grid = np.random.default_rng(0).normal(size=(37, 37, 8)).astype(np.float32)
  factor = 16.1 / 37
  expected = torch.nn.functional.interpolate(
    torch.from_numpy(grid.transpose(2, 0, 1)[None].copy()),
    scale_factor=(factor, factor),
    mode='bicubic',
  )[0]
  found = resize_positions(jnp.asarray(grid), 16, 16, offset=0.1)
  expected = expected.permute(1, 2, 0).numpy()
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
  ('width', 'depth', 'heads', 'count'),
  [
    (384, 12, 6, 22_056_576),
    (768, 12, 12, 86_580_480),
    (1024, 24, 16, 304_368_640),
  ],
)
def test_number_of_parameters(width, depth, heads, count):
  """transformers' counts, with a mask token that only they have."""
  _, params = abstract(lambda: make(width=width, depth=depth, heads=heads))
  sizes = [leaf.size for leaf in jax.tree.leaves(params)]
  assert sum(sizes) + width == count


def original(options):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  config = transformers.Dinov2Config(
    hidden_size=options['width'],
    num_hidden_layers=options['depth'],
    num_attention_heads=options['heads'],
    patch_size=options['patch'],
    image_size=options['patch'] * options['side'],
  )
  return transformers.Dinov2Model(config).eval()


@pytest.mark.parametrize(
  ('options', 'side'),
  [
    pytest.param(TINY, 20, id='tiny'),
    pytest.param(TINY, 12, id='tiny_resized'),
    pytest.param(
      {'width': 384, 'depth': 12, 'heads': 6, 'patch': 14, 'side': 37},
      224,
      id='small',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_it_is_transformers(options, side):
  torch = pytest.importorskip('torch')
  theirs = original(options)
  graph, params = abstract(lambda: make(**options, offset=0.0))
  weights = names.from_torch(of_torch(theirs), shapes_of(params))
  x = images(side)
  normal = (x / 255 - np.float32(MEAN)) / np.float32(STD)
  with torch.no_grad():
    normal = torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())
    expected = theirs(normal).pooler_output.numpy()
  assert_close(answers(graph, filled(params, weights), x)['cls'], expected)


@pytest.mark.slow
def test_the_class_token_sees_the_whole_image_and_is_normal():
  net = make(**TINY)
  x = images(20)
  found = jax.jit(lambda x: net(x)['cls'])(jnp.concatenate([x, x[:, ::-1]]))
  assert found.shape == (4, 24)
  np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(found.std(-1), 1, atol=1e-2)
  assert np.abs(found[:2] - found[2:]).max() > 1e-3
