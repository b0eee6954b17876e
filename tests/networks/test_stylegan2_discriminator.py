"""The discriminator of StyleGAN2, layer by layer, and against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks import NETWORKS
from flowdistill.networks.embeddings import OneHot
from flowdistill.networks.stylegan2_discriminator import (
  Block,
  StyleGAN2Discriminator,
  sides_of,
  with_deviation,
)

TINY = {'channel_base': 16, 'channel_max': 4}
NO_CLASS = DataSpec.labelled((8, 8, 3), 0)
CLASSES = 3


def make(spec, **options):
  return StyleGAN2Discriminator(spec, **TINY | options, rngs=nnx.Rngs(0))


@nnx.jit
def logits_of(net, x, cond):
  return net(x, cond)


def noise(*shape):
  return jax.random.normal(jax.random.key(1), shape)


def test_it_has_its_row():
  assert NETWORKS['stylegan2_discriminator'] is StyleGAN2Discriminator
  assert StyleGAN2Discriminator.signature == 'logits'


@pytest.mark.parametrize(
  ('shape', 'sides'),
  [
    ((4, 4, 3), [(4, 4)]),
    ((7, 7, 1), [(7, 7)]),
    ((8, 8, 1), [(8, 8), (4, 4)]),
    ((28, 28, 1), [(28, 28), (14, 14), (7, 7)]),
    ((17, 17, 2), [(17, 17), (8, 8), (4, 4)]),
    ((16, 40, 4), [(16, 40), (8, 20), (4, 10)]),
    ((64, 64, 3), [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
  ],
)
def test_sides_are_halved_until_the_shorter_is_from_4_to_7(shape, sides):
  assert sides_of(shape) == sides


@pytest.mark.parametrize('side', [8, 9])
def test_a_block_halves_both_sides_rounded_down(side):
  block = Block(2, 5, dtype=None, rngs=nnx.Rngs(0))
  out = jax.eval_shape(block, jnp.zeros((3, side, side + 2, 2)))
  assert out.shape == (3, side // 2, side // 2 + 1, 5)


@pytest.mark.parametrize('shape', [(4, 4, 1), (9, 6, 5), (16, 16, 3)])
def test_any_shape_from_4_on_has_a_logit(shape):
  net = nnx.eval_shape(lambda: make(DataSpec.labelled(shape, 0)))
  x = jax.ShapeDtypeStruct((6, *shape), jnp.float32)
  out = nnx.eval_shape(lambda net, x: net(x, {}), net, x)
  assert (out.shape, out.dtype) == ((6,), jnp.float32)


def test_the_published_widths_are_the_default():
  spec = DataSpec.labelled((256, 256, 3), 0)
  net = nnx.eval_shape(lambda: StyleGAN2Discriminator(spec, rngs=nnx.Rngs(0)))
  widths = [net.first.kernel.shape[-1]]
  widths += [block.down.kernel.shape[-1] for block in net.blocks]
  assert widths == [128, 256, 512, 512, 512, 512, 512]
  assert net.conv.kernel.shape == (3, 3, 513, 512)
  assert net.hidden.kernel.shape == (4 * 4 * 512, 512)


def test_the_deviation_of_equal_examples_is_zero():
  h = jnp.broadcast_to(noise(1, 4, 4, 3), (8, 4, 4, 3))
  out = with_deviation(h, 4)
  np.testing.assert_array_equal(out[..., :3], h)
  np.testing.assert_allclose(out[..., 3], 1e-4, rtol=1e-3)  # √1e-8


@pytest.mark.parametrize(('b', 'size'), [(8, 4), (6, 3), (5, 1), (2, 2)])
def test_the_deviation_of_each_group(b, size):
  """The largest divisor of the batch that is at most 4."""
  h = np.asarray(noise(b, 4, 5, 3))
  found = np.asarray(with_deviation(jnp.asarray(h), 4))[..., 3]
  for i in range(b):
    start = i - i % size
    expected = h[start : start + size].std(0).mean()
    np.testing.assert_allclose(found[i], max(expected, 1e-4), rtol=1e-3)


def test_a_group_of_one_makes_examples_independent():
  net, x = make(NO_CLASS, group=1), noise(4, 8, 8, 3)
  other = x.at[2:].multiply(3)
  before, after = logits_of(net, x, {}), logits_of(net, other, {})
  np.testing.assert_allclose(before[:2], after[:2], atol=1e-5)
  assert np.all(before[2:] != after[2:])
  net = make(NO_CLASS)
  before, after = logits_of(net, x, {}), logits_of(net, other, {})
  assert np.min(np.abs(before - after)) > 1e-3


def test_a_logit_is_affine_in_the_vector_of_its_class():
  """ψ(h) + ⟨e, h⟩ / √n, and ψ(h) where the class is dropped."""
  net = make(DataSpec.labelled((8, 8, 1), CLASSES))
  x, label = noise(4, 8, 8, 1), jnp.array([0, 2, 1, CLASSES])
  h = nnx.jit(lambda net, x: net.features(x))(net, x)
  e = net.classes.kernel[...]
  psi = net.last(h)[:, 0]
  logits = logits_of(net, x, {'label': label})
  inner = jnp.einsum('bn,bn->b', jnp.stack([e[0], e[2], e[1], 0 * e[0]]), h)
  np.testing.assert_allclose(logits, psi + inner / 4**0.5, rtol=1e-5)
  np.testing.assert_allclose(logits[3], psi[3])
  net.classes.kernel[...] = 2 * e
  twice = logits_of(net, x, {'label': label})
  np.testing.assert_allclose(twice - psi, 2 * (logits - psi), rtol=1e-4)


def test_a_constant_image_passes_the_filtered_skip_as_its_mean():
  """Away from the border the taps sum to 1, so nothing but the kernel acts."""
  block = Block(1, 1, dtype=None, rngs=nnx.Rngs(0))
  block.down.kernel[...] = 0 * block.down.kernel[...]
  out = nnx.jit(lambda block, h: block(h))(block, 3 * jnp.ones((1, 16, 16, 1)))
  expected = 3 * block.skip.kernel[0, 0, 0, 0] / 2**0.5
  np.testing.assert_allclose(out[0, 2:-2, 2:-2, 0], expected, rtol=1e-5)


@pytest.mark.usefixtures('x64')
@pytest.mark.slow
def test_the_gradient_of_the_gradient_s_norm_is_right():
  """What R1 needs, against central differences along one direction."""
  graph, params = nnx.split(make(DataSpec.labelled((4, 4, 2), 0)))
  params = jax.tree.map(lambda w: w.astype(np.float64), params)
  x, step = noise(2, 4, 4, 2), 1e-6

  @jax.jit
  def penalty(params):
    slope = jax.grad(lambda x: nnx.merge(graph, params)(x, {}).sum())(x)
    return jnp.square(slope).sum()

  along = jax.tree.map(lambda w: jnp.cos(jnp.arange(w.size) + 1.0), params)
  along = jax.tree.map(lambda a, w: a.reshape(w.shape), along, params)
  _, exact = jax.jvp(penalty, (params,), (along,))
  ahead, behind = (
    penalty(jax.tree.map(lambda w, a, h=h: w + h * a, params, along))
    for h in (step, -step)
  )
  assert abs(exact) > 1e-3
  assert float(ahead - behind) / (2 * step) == pytest.approx(
    float(exact), rel=1e-4
  )


@pytest.mark.parametrize('options', [{'remat': 'full'}, {'remat': 'dots'}])
def test_rematerialisation_changes_no_gradient(options):
  x = noise(4, 8, 8, 3)

  @nnx.jit
  def gradient(net):
    return jax.grad(lambda x: net(x, {}).sum())(x)

  plain, saved = gradient(make(NO_CLASS)), gradient(make(NO_CLASS, **options))
  np.testing.assert_allclose(plain, saved, atol=1e-5)


def test_in_bfloat16_it_is_close_and_answers_in_float32():
  x = noise(4, 8, 8, 3)
  exact = logits_of(make(NO_CLASS), x, {})
  rounded = logits_of(make(NO_CLASS, dtype='bfloat16'), x, {})
  assert rounded.dtype == jnp.float32
  assert 0 < np.max(np.abs(exact - rounded)) < 0.1


@pytest.mark.parametrize(
  ('shape', 'options', 'message'),
  [
    ((3, 8, 1), {}, r'sides of at least 4, not \[3, 8, 1\]'),
    ((2,), {}, r'takes \[h, w, c\] with sides of at least 4, not \[2\]'),
    ((8, 8, 1), {'group': 0}, 'group = 0 must be at least 1'),
    ((8, 8, 1), {'channel_max': 0}, 'channel_max = 0 must be at least 1'),
    ((8, 8, 1), {'dtype': 'int8'}, "dtype = 'int8' must be one of"),
    ((8, 8, 1), {'remat': 'some'}, "remat = 'some' must be one of"),
  ],
)
def test_what_it_refuses(shape, options, message):
  with pytest.raises(ValueError, match=message):
    make(DataSpec.labelled(shape, 0), **options)


def test_a_condition_that_it_does_not_take_is_refused():
  spec = DataSpec((8, 8, 1), {'text': Condition((4, 3))})
  with pytest.raises(ValueError, match="takes no condition 'text'"):
    make(spec)


def test_it_answers_as_the_same_layers_in_pytorch():
  torch = pytest.importorskip('torch')
  functional = torch.nn.functional
  spec = DataSpec.labelled((17, 12, 2), 0)
  net, x = make(spec), noise(4, 17, 12, 2)
  taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
  taps = (taps[:, None] * taps)[None, None]

  def tensor(param):
    return torch.tensor(np.asarray(param[...]))

  def blurred(h, pad):
    c = h.shape[1]
    h = functional.pad(h, (pad,) * 4)
    return functional.conv2d(h, taps.expand(c, 1, 4, 4), groups=c)

  def conv(layer, h, **options):
    w = tensor(layer.kernel).permute(3, 2, 0, 1)
    bias = None if layer.bias is None else tensor(layer.bias)
    return functional.conv2d(h, w / w[0].numel() ** 0.5, bias, **options)

  def leaky(h):
    return functional.leaky_relu(h, 0.2) * 2**0.5

  h = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
  h = leaky(conv(net.first, h))
  for block in net.blocks:
    skip = conv(block.skip, blurred(h, 1), stride=2)
    h = leaky(conv(block.conv, h, padding=1))
    h = leaky(conv(block.down, blurred(h, 2), stride=2))
    h = (h + skip) / 2**0.5
  deviation = torch.sqrt(h.var(0, unbiased=False) + 1e-8).mean()
  h = torch.cat([h, deviation.expand(4, 1, *h.shape[2:])], 1)
  h = leaky(conv(net.conv, h, padding=1)).permute(0, 2, 3, 1).flatten(1)
  for layer, act in ((net.hidden, leaky), (net.last, lambda h: h)):
    w = tensor(layer.kernel)
    h = act(h @ w / len(w) ** 0.5 + tensor(layer.bias))
  np.testing.assert_allclose(net(x, {}), h[:, 0], atol=1e-5)


def test_the_vectors_of_classes_have_variance_one():
  kernel = OneHot(50, 400, rngs=nnx.Rngs(0)).kernel[...]
  assert float(kernel.std()) == pytest.approx(1, abs=0.02)
