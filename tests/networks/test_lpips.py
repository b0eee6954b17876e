"""LPIPS against a second implementation, PyTorch's, and what it must be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.convert import lpips as names
from flowdistill.networks.lpips import (
  LPIPS,
  prepare,
  resize_bilinear,
  unit_channels,
)
from flowdistill.training.named_arrays import by_name

SHAPES = nnx.state(nnx.eval_shape(lambda: LPIPS(rngs=nnx.Rngs(0))))
X, Y = np.random.default_rng(1).uniform(-1, 1, size=(2, 2, 8, 12, 3))
X, Y = X.astype(np.float32), Y.astype(np.float32)


@functools.partial(jax.jit, static_argnames=('resize', 'eps'))
def distance(params, x, y, *, resize=16, eps=1e-10):
  net = nnx.eval_shape(lambda: LPIPS(eps=eps, rngs=nnx.Rngs(0)))
  return nnx.merge(nnx.split(net)[0], params)(x, y, resize)


@pytest.fixture(scope='module')
def torch_weights():
  """Random weights by PyTorch's names that keep activations of one size."""
  rng = np.random.default_rng(0)

  def drawn(shape):
    if shape[-1] == 1:  # of a lin: not negative
      return rng.uniform(size=shape)
    scale = (2 / np.prod(shape[:-1])) ** 0.5 if len(shape) == 4 else 0.1
    return scale * rng.normal(size=shape)

  ours = {n: drawn(leaf.shape) for n, leaf in by_name(SHAPES).items()}
  theirs = names.to_torch(ours, 'torchvision')
  return {n: array.astype(np.float32) for n, array in theirs.items()}


def load(torch_weights):
  ours = names.from_torch(
    torch_weights, {n: leaf.shape for n, leaf in by_name(SHAPES).items()}
  )
  flat = nnx.to_flat_state(SHAPES)
  return nnx.from_flat_state(
    {path: p.replace(ours['.'.join(map(str, path))]) for path, p in flat}
  )


@pytest.fixture(scope='module')
def params(torch_weights):
  return load(torch_weights)


def images(*shape):
  rng = np.random.default_rng(1)
  return rng.uniform(-1, 1, size=(2, *shape)).astype(np.float32)


def by_hand(weights, x, y, eps):
  """The formula in numpy and float64, for images [b, h, w, 3] at 16 x 16."""
  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
  blocks = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))

  def convolve(h, layer):
    kernel, bias = (
      weights[f'features.{layer}.{n}'] for n in ('weight', 'bias')
    )
    h = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h = np.lib.stride_tricks.sliding_window_view(h, (3, 3), (1, 2))
    return np.tensordot(h, kernel.astype(float), ((3, 4, 5), (1, 2, 3))) + bias

  def stretch(row):
    return np.interp(np.linspace(0, len(row) - 1, 16), range(len(row)), row)

  def features(x):
    for axis in (1, 2):
      x = np.apply_along_axis(stretch, axis, x)
    h = ((x + 1) / 2 - mean) / std
    for i, layers in enumerate(blocks):
      if i:
        b, rows, columns, c = h.shape
        h = h.reshape(b, rows // 2, 2, columns // 2, 2, c).max((2, 4))
      for layer in layers:
        h = np.maximum(convolve(h, layer), 0)
      yield h / (np.sqrt(np.sum(h**2, -1, keepdims=True)) + eps)

  total = 0
  for i, (a, b) in enumerate(zip(features(x), features(y), strict=True)):
    lin = weights[f'lin{i}.model.1.weight'].reshape(-1).astype(float)
    total += ((a - b) ** 2 @ lin).mean((1, 2))
  return total


@pytest.mark.parametrize('eps', [1e-10, 1.0])
def test_it_is_the_formula(params, torch_weights, eps):
  expected = by_hand(torch_weights, X, Y, eps)
  assert expected.min() > 0.01
  found = distance(params, X, Y, eps=eps)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_grey_images_have_three_equal_channels():
  grey = images(16, 16, 1)
  coloured = prepare(grey.repeat(3, -1), 20)
  np.testing.assert_allclose(prepare(grey, 20), coloured, atol=2e-6)


def test_none_leaves_the_size():
  x = images(20, 24, 3)
  assert prepare(x, None).shape == (2, 20, 24, 3)
  assert prepare(x, 16).shape == (2, 16, 16, 3)


def test_equal_images_are_at_distance_0_and_order_does_not_matter(params):
  np.testing.assert_allclose(distance(params, X, X), 0, atol=1e-12)
  there, back = distance(params, X, Y), distance(params, Y, X)
  np.testing.assert_allclose(there, back, rtol=1e-6)
  assert np.min(there) > 0


def test_a_lin_weighs_its_layer(params, torch_weights):

  def weighed(factors):
    lins = {
      name: f * torch_weights[name]
      for i, f in enumerate(factors)
      if (name := f'lin{i}.model.1.weight')
    }
    return np.asarray(distance(load(torch_weights | lins), X, Y))

  alone = [weighed(np.arange(5) == i) for i in range(5)]
  assert np.min(alone) > 0
  np.testing.assert_allclose(sum(alone), distance(params, X, Y), rtol=1e-5)
  doubled = weighed([1, 1, 2, 1, 1])
  np.testing.assert_allclose(doubled, sum(alone) + alone[2], rtol=1e-5)


def test_features_have_the_length_that_eps_says():
  h = jnp.array([[3.0, 4.0], [0.0, 0.0]])
  unit = unit_channels(h, 0.0)
  np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], rtol=1e-6)
  np.testing.assert_allclose(unit_channels(h, 5.0)[0], [0.3, 0.4], rtol=1e-6)
  slope = jax.grad(lambda h: jnp.sum(unit_channels(h, 1e-10)))(h)
  assert np.isfinite(slope).all()


@pytest.mark.parametrize('size', [(8, 8), (5, 9), (64, 64), (100, 70), (1, 3)])
def test_a_ramp_stays_a_ramp_with_its_corners(size):
  """Bilinear, align_corners: exact for what is linear in both directions."""

  def ramp(rows, columns):
    down = np.linspace(0, 1, rows)[:, None]
    across = np.linspace(0, 1, columns)[None]
    return np.stack([2 - 3 * down + 0 * across, down + 5 * across], -1)

  given, expected = ramp(*size), ramp(64, 64)
  if size[0] == 1:  # one row has no slope, only its value
    expected = np.broadcast_to(expected[:1], expected.shape)
  out = resize_bilinear(jnp.asarray(given[None], jnp.float32), 64)
  np.testing.assert_allclose(out[0], expected, atol=2e-5)


def test_between_two_pixels_it_is_linear():
  x = jnp.array([0.0, 1.0, 0.0]).reshape(1, 1, 3, 1)
  out = resize_bilinear(x, 5)[0, 0, :, 0]
  np.testing.assert_allclose(out, [0, 0.5, 1, 0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
  ('shape', 'resize', 'message'),
  [
    ((2,), 64, r'images \[b, h, w, 1 or 3\], not \[2, 2\]'),
    ((16, 16, 2), 64, r'images \[b, h, w, 1 or 3\], not \[2, 16, 16, 2\]'),
    ((8, 8, 1), 15, 'resize = 15 .* must be at least 16'),
    (
      (32, 8, 1),
      None,
      'resize = None gives VGG16 images of size 8, .* least 16',
    ),
  ],
)
def test_what_is_no_image_for_vgg(shape, resize, message):
  with pytest.raises(ValueError, match=message):
    prepare(images(*shape), resize)


def in_torch(torch, weights, x, y, size):
  """LPIPS in PyTorch's functions, for images [b, c, h, w] and c = 3."""
  functional = torch.nn.functional
  shift, scale = (
    torch.tensor(v).view(1, 3, 1, 1)
    for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
  )
  taps, pools, convolutions = (2, 7, 14, 21, 28), (4, 9, 16, 23), names.SLICES

  def features(h):
    h = functional.interpolate(
      h, size=(size, size), mode='bilinear', align_corners=True
    )
    h = (h - shift) / scale
    for layer in range(29):
      if layer in pools:
        h = functional.max_pool2d(h, 2)
      if layer in sum(convolutions, ()):
        w, b = (weights[f'features.{layer}.{n}'] for n in ('weight', 'bias'))
        h = functional.relu(functional.conv2d(h, w, b, padding=1))
      if layer in taps:
        yield h / (h.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)

  return sum(
    functional.conv2d((a - b) ** 2, weights[f'lin{i}.model.1.weight']).mean(
      (1, 2, 3)
    )
    for i, (a, b) in enumerate(zip(features(x), features(y), strict=True))
  )


def test_it_is_what_pytorch_computes(params, torch_weights):
  torch = pytest.importorskip('torch')
  x, y = images(28, 40, 3), images(28, 40, 3)[:, ::-1].copy()
  weights = {n: torch.from_numpy(w.copy()) for n, w in torch_weights.items()}
  there = (torch.from_numpy(a.transpose(0, 3, 1, 2).copy()) for a in (x, y))
  expected = in_torch(torch, weights, *there, 64).numpy()
  ours = distance(params, x, y, resize=64)
  np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_it_is_the_original():
  """Its package ships the lins; its VGG is random here, as ours is."""
  lpips = pytest.importorskip('lpips')
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  original = lpips.LPIPS(net='vgg', pnet_rand=True, verbose=False)
  weights = {n: w.numpy() for n, w in original.state_dict().items()}
  x, y = images(64, 64, 3), images(64, 64, 3)[:, ::-1].copy()
  there = (torch.from_numpy(a.transpose(0, 3, 1, 2).copy()) for a in (x, y))
  with torch.no_grad():
    expected = original(*there).numpy().reshape(-1)
  ours = distance(load(weights), x, y, resize=64)
  np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
