import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import tiny_flux, tiny_sd3
from networks.tiny import SHAPES, B, inputs, make

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.attention import (
  FORMS,
  Attention,
  Heads,
  attend,
  plain,
)
from flowdistill.networks.unet_layers import BlockConfig

CONFIG = BlockConfig(embedding=6, kind='adm', dropout=0, dtype=None, head=4)
RNG = np.random.default_rng(0)


def test_a_place_that_is_like_one_alone_takes_from_it_alone():
  alike, v = 1e3 * jnp.eye(5), jnp.asarray(RNG.normal(size=(5, 5)), jnp.float32)
  np.testing.assert_allclose(attend(alike, alike, v), v, atol=1e-6)
  mean = jnp.broadcast_to(v.mean(0), v.shape)
  np.testing.assert_allclose(attend(0 * alike, alike, v), mean, atol=1e-6)


def test_a_masked_key_is_as_one_that_is_not_there():
  q, k, v = jnp.asarray(RNG.normal(size=(3, 2, 5, 4)), jnp.float32)
  mask = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0]], bool)
  found = attend(q, k, v, mask[:, None])
  for i, keys in enumerate(mask):
    expected = attend(q[i], k[i, keys], v[i, keys])
    np.testing.assert_allclose(found[i], expected, atol=1e-6)
  everything = attend(q, k, v, np.ones((5, 5), bool))
  np.testing.assert_array_equal(everything, attend(q, k, v))


@pytest.mark.parametrize('kind', [Attention, Heads])
def test_attention_does_not_know_where_a_place_is(kind):
  attention = kind(8, CONFIG, rngs=nnx.Rngs(0))
  attention.out.kernel.set_value(jnp.asarray(RNG.normal(size=(8, 8))))
  h = RNG.normal(size=(2, 3, 4, 8)).astype(np.float32)
  order = RNG.permutation(12)
  moved = h.reshape(2, 12, 8)[:, order].reshape(h.shape)
  out = np.asarray(attention(h)).reshape(2, 12, 8)
  there = np.asarray(attention(moved)).reshape(2, 12, 8)
  np.testing.assert_allclose(there, out[:, order], atol=1e-5)
  assert np.abs(out - h.reshape(out.shape)).max() > 0.1


def test_heads_do_not_know_of_each_other():
  attention = Heads(8, CONFIG, rngs=nnx.Rngs(0))
  attention.out.kernel.set_value(jnp.eye(8))
  h = RNG.normal(size=(2, 3, 4, 8)).astype(np.float32)
  before = attention(h)
  kernel = attention.qkv.kernel[...]
  attention.qkv.kernel.set_value(kernel.at[:, :12].multiply(2.0))
  changed = np.abs(attention(h) - before).max((0, 1, 2))
  assert (changed[:4] > 0.01).all()
  assert (changed[4:] == 0).all()


@pytest.mark.parametrize(
  ('channels', 'heads'), [(32, 1), (64, 1), (96, 1), (128, 2), (160, 2)]
)
def test_a_head_has_so_many_channels_or_some_more(channels, heads):
  config = BlockConfig(embedding=6, kind='adm', dropout=0, dtype=None)
  found = nnx.eval_shape(lambda: Heads(channels, config, rngs=nnx.Rngs(0)))
  assert found.heads == heads


def test_heads_that_do_not_divide_raise():
  with pytest.raises(ValueError, match='^head_channels = 4 makes 5 heads of a'):
    Heads(22, CONFIG, rngs=nnx.Rngs(0))


TEXT = {
  'text': Condition((3, 4), 'float32'),
  'mask': Condition((3,), 'bool', False),
}
WITH_TEXT = {
  'dit': {'text': 'cross', 'text_depth': 1},
  'mmdit': {'text_depth': 1},
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', [n for n in SHAPES if n != 'mlp'])
def test_every_network_has_one_form_of_attention(name, form, monkeypatch):
  """With text and without, everywhere in the network."""
  called = []

  def counted(own):
    def attend(q, k, v, mask=None):
      called.append(own)
      return plain(q, k, v, mask)

    return attend

  for own in FORMS:
    monkeypatch.setitem(FORMS, own, counted(own))
  x, t, s, cond = inputs(name)
  options = {'attention_form': form, 'dtype': 'bfloat16'}

  def answer(**more):
    net = make(name, **options, **more)
    return net(x, t, s, cond)

  jax.eval_shape(answer)
  if name in WITH_TEXT:
    before = len(called)
    cond = {'text': jnp.ones((B, 3, 4)), 'mask': jnp.ones((B, 3), bool)}
    spec = DataSpec(SHAPES[name], TEXT)
    jax.eval_shape(lambda: answer(spec=spec, **WITH_TEXT[name]))
    assert len(called) > before + 1  # in the text too
  assert set(called) == {form}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', ['flux', 'sd3'])
def test_so_have_the_published_transformers(name, form, monkeypatch):
  tiny = {'flux': tiny_flux, 'sd3': tiny_sd3}[name]
  called = []
  for own in FORMS:

    def counted(q, k, v, mask=None, own=own):
      called.append(own)
      return plain(q, k, v, mask)

    monkeypatch.setitem(FORMS, own, counted)
  config = (
    {} if name == 'flux' else {'config': tiny_sd3.options_of('dual_last')}
  )
  options = {'attention_form': form, 'dtype': 'bfloat16', **config}
  jax.eval_shape(lambda: tiny.make(**options)(*tiny.inputs()))
  assert set(called) == {form}
