"""The KL autoencoder against its equations and against diffusers."""

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

from flowdistill.autoencoders.kl import AutoencoderKL, KLConfig
from flowdistill.convert import kl as names

TINY = {
  'block_out_channels': (8, 16),
  'layers_per_block': 1,
  'norm_num_groups': 4,
}
PLAIN = {
  'latent_channels': 16,
  'use_quant_conv': False,
  'use_post_quant_conv': False,
}
SAMPLE = np.random.default_rng(1)


def make(**options):
  return AutoencoderKL(KLConfig(**options), 3, rngs=nnx.Rngs(0))


def weights_of(params, seed=0):
  rng = np.random.default_rng(seed)
  return {
    path: (0.2 * rng.normal(size=shape)).astype(np.float32)
    for path, shape in shapes_of(params).items()
  }


# --- Its equations, in NumPy --------------------------------------------------


def conv(w, name, x, stride=1, pad=((1, 1), (1, 1))):
  kernel, bias = w[f'{name}.weight'].astype(float), w[f'{name}.bias']
  side = kernel.shape[-1]
  pad = pad if side == 3 else ((0, 0), (0, 0))
  x = np.pad(x, ((0, 0), (0, 0), *pad))
  rows, columns = (1 + (n - side) // stride for n in x.shape[2:])
  y = np.empty((len(x), len(kernel), rows, columns))
  for i in range(rows):
    for j in range(columns):
      a, b = stride * i, stride * j
      patch = x[:, :, a : a + side, b : b + side]
      y[:, :, i, j] = np.einsum('ocij,bcij->bo', kernel, patch) + bias
  return y


def norm(w, name, x, groups=4):
  parts = x.reshape(len(x), groups, -1)
  parts = parts - parts.mean(-1, keepdims=True)
  parts /= np.sqrt(np.square(parts).mean(-1, keepdims=True) + 1e-6)
  weight, bias = (w[f'{name}.{n}'][:, None, None] for n in ('weight', 'bias'))
  return parts.reshape(x.shape) * weight + bias


def silu(x):
  return x / (1 + np.exp(-x))


def residual(w, name, x):
  h = conv(w, f'{name}.conv1', silu(norm(w, f'{name}.norm1', x)))
  h = conv(w, f'{name}.conv2', silu(norm(w, f'{name}.norm2', h)))
  short = f'{name}.conv_shortcut'
  return h + (conv(w, short, x) if f'{short}.weight' in w else x)


def attention(w, name, x):
  b, c = x.shape[:2]
  h = norm(w, f'{name}.group_norm', x).reshape(b, c, -1).transpose(0, 2, 1)

  def linear(part, h):
    return h @ w[f'{name}.{part}.weight'].T + w[f'{name}.{part}.bias']

  q, k, v = (linear(part, h) for part in ('to_q', 'to_k', 'to_v'))
  scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(c))
  h = linear('to_out.0', scores / scores.sum(-1, keepdims=True) @ v)
  return x + h.transpose(0, 2, 1).reshape(x.shape)


def middle(w, name, x):
  x = residual(w, f'{name}.resnets.0', x)
  x = attention(w, f'{name}.attentions.0', x)
  return residual(w, f'{name}.resnets.1', x)


def encoded(w, x):
  h = conv(w, 'encoder.conv_in', x)
  h = residual(w, 'encoder.down_blocks.0.resnets.0', h)
  down = 'encoder.down_blocks.0.downsamplers.0.conv'
  h = conv(w, down, h, stride=2, pad=((0, 1), (0, 1)))
  h = residual(w, 'encoder.down_blocks.1.resnets.0', h)
  h = middle(w, 'encoder.mid_block', h)
  h = conv(w, 'encoder.conv_out', silu(norm(w, 'encoder.conv_norm_out', h)))
  return np.split(conv(w, 'quant_conv', h), 2, axis=1)


def decoded(w, z):
  h = conv(w, 'decoder.conv_in', conv(w, 'post_quant_conv', z))
  h = middle(w, 'decoder.mid_block', h)
  for layer in range(2):
    h = residual(w, f'decoder.up_blocks.0.resnets.{layer}', h)
  h = h.repeat(2, 2).repeat(2, 3)
  h = conv(w, 'decoder.up_blocks.0.upsamplers.0.conv', h)
  for layer in range(2):
    h = residual(w, f'decoder.up_blocks.1.resnets.{layer}', h)
  return conv(w, 'decoder.conv_out', silu(norm(w, 'decoder.conv_norm_out', h)))


def last(x):
  return np.moveaxis(x, 1, -1)


def test_it_answers_as_its_equations():
  graph, params = abstract(lambda: make(**TINY))
  ours = weights_of(params)
  theirs, own = names.to_torch(ours), filled(params, ours)
  x = SAMPLE.normal(size=(2, 3, 6, 8)).astype(np.float32)
  mean, log_variance = answers(graph, own, last(x), method='moments')
  wanted = encoded(theirs, x)
  np.testing.assert_allclose(mean, last(wanted[0]), atol=1e-4)
  np.testing.assert_allclose(log_variance, last(wanted[1]), atol=1e-4)
  z = SAMPLE.normal(size=(2, 4, 3, 4)).astype(np.float32)
  found = answers(graph, own, last(z), method='decode')
  np.testing.assert_allclose(found, last(decoded(theirs, z)), atol=1e-4)


def test_log_variances_are_clipped():
  graph, params = abstract(lambda: make(**TINY))
  ours = weights_of(params)
  ours['quant_conv.bias'] = np.float32([0] * 4 + [-99, 99, 0, 0])
  x = jnp.zeros((1, 4, 4, 3))
  _, found = answers(graph, filled(params, ours), x, method='moments')
  assert (found[..., 0] == -30).all()
  assert (found[..., 1] == 20).all()


# --- diffusers ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('options', 'count'), [({}, 83_653_863), (PLAIN, 83_819_683)]
)
def test_number_of_parameters(options, count):
  """Of Stable Diffusion 1, 2 and XL; and of 3 and FLUX."""
  _, params = abstract(lambda: make(**options))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def original(options):
  torch, theirs = pytest.importorskip('torch'), pytest.importorskip('diffusers')
  torch.manual_seed(0)
  levels = len(options['block_out_channels'])
  return theirs.AutoencoderKL(
    down_block_types=('DownEncoderBlock2D',) * levels,
    up_block_types=('UpDecoderBlock2D',) * levels,
    **options,
  ).eval()


@pytest.mark.parametrize(
  'more',
  [
    {},
    PLAIN,
    {'mid_block_add_attention': False},
    {'block_out_channels': (8,)},
    {'block_out_channels': (8, 16, 16), 'layers_per_block': 2},
  ],
)
def test_it_is_that_of_diffusers(more):
  torch = pytest.importorskip('torch')
  options = {**TINY, **more}
  theirs = original(options)
  graph, params = abstract(lambda: make(**options))
  arrays = of_torch(theirs)
  ours = names.from_torch(arrays, shapes_of(params))
  x = SAMPLE.uniform(-1, 1, size=(2, 3, 16, 24)).astype(np.float32)
  with torch.no_grad():
    found = theirs.encode(torch.from_numpy(x)).latent_dist
    images = theirs.decode(found.mean).sample
  own = filled(params, ours)
  mean, log_variance = answers(graph, own, last(x), method='moments')
  assert_close(mean, last(found.mean.numpy()))
  assert_close(log_variance, last(found.logvar.numpy()))
  back = answers(graph, own, mean, method='decode')
  assert_close(back, last(images.numpy()))
  written = {
    n: torch.from_numpy(a.copy()) for n, a in names.to_torch(ours).items()
  }
  assert not any(map(bool, theirs.load_state_dict(written)))


@pytest.mark.slow
def test_its_gradients_are_those_of_diffusers():
  """Of the latents' mean in the image, and of the image in the latents."""
  torch = pytest.importorskip('torch')
  options = {**TINY, **PLAIN}
  theirs = original(options)
  graph, params = abstract(lambda: make(**options))
  own = filled(params, names.from_torch(of_torch(theirs), shapes_of(params)))
  x = SAMPLE.uniform(-1, 1, size=(1, 3, 4, 8)).astype(np.float32)
  z = SAMPLE.normal(size=(1, 16, 2, 4)).astype(np.float32)
  calls = {
    'moments': (x, lambda x: theirs.encode(x).latent_dist.mean),
    'decode': (z, lambda z: theirs.decode(z).sample),
  }
  for method, (point, call) in calls.items():
    leaf = torch.tensor(point, requires_grad=True)
    out = call(leaf)
    weight = SAMPLE.normal(size=out.shape).astype(np.float32)
    (out * torch.tensor(weight)).sum().backward()

    def inner(point, method=method, weight=weight):
      out = getattr(nnx.merge(graph, own), method)(point)
      mean = out[0] if method == 'moments' else out
      return (mean * last(weight)).sum()

    found = jax.jit(jax.grad(inner))(last(point))
    assert_close(found, last(leaf.grad.numpy()))


# --- What cannot be -----------------------------------------------------------


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'block_out_channels': ()}, r'block_out_channels = \(\) must be one or'),
    ({'block_out_channels': (48,)}, 'multiples of norm_num_groups = 32'),
    ({'latent_channels': 0}, 'latent_channels = 0 must be at least 1'),
    ({'layers_per_block': 0}, 'layers_per_block = 0 must be at least 1'),
    ({'norm_num_groups': 0}, 'norm_num_groups = 0 must be at least 1'),
  ],
)
def test_sizes_that_cannot_be_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    KLConfig(**options)


def test_images_that_do_not_divide_are_refused():
  config = KLConfig()
  assert config.latent_shape((512, 256, 3)) == (64, 32, 4)
  with pytest.raises(ValueError, match='20 x 32, must be multiples of 8'):
    config.latent_shape((20, 32, 3))
  with pytest.raises(ValueError, match=r'takes images \[h, w, c\], not \[2\]'):
    config.latent_shape((2,))
