"""Text and pictures in joint attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import IMAGE, changed, run, size, trained

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.mmdit import MMDiT
from flowdistill.networks.mmdit_blocks import JointBlock, Keys
from flowdistill.networks.rotary import angles_of

B, TEXT, GRID, WIDTH, HEADS = 2, 3, (2, 3), 16, 2
TOKENS = GRID[0] * GRID[1]
SPEC = DataSpec(
  IMAGE,
  {
    'tokens': Condition((TEXT,), 'int32', 9),
    'mask': Condition((TEXT,), 'bool', False),
  },
)
RNG = np.random.default_rng(0)


def block(*, last, scale=1.0):
  """A block with no parameter at zero."""
  made = JointBlock(
    WIDTH, HEADS, 32, 0.0, length=TEXT, last=last, dtype=None, rngs=nnx.Rngs(0)
  )
  graph, params = nnx.split(made)
  rng = np.random.default_rng(1)
  return nnx.merge(
    graph,
    changed(params, lambda _, w: scale * 0.3 * rng.normal(size=w.shape)),
  )


def states():
  h = RNG.normal(size=(B, TEXT + TOKENS, WIDTH)).astype(np.float32)
  e = RNG.normal(size=(B, WIDTH)).astype(np.float32)
  mask = np.ones((B, TEXT + TOKENS), bool)
  mask[0, 1:TEXT] = False
  return h, e, mask


@pytest.mark.parametrize('last', [False, True])
def test_pictures_may_be_permuted_with_their_positions(last):
  layer, (h, e, mask) = block(last=last), states()
  angles = angles_of(GRID, WIDTH // HEADS, 100.0)
  order = RNG.permutation(TOKENS)
  whole = np.r_[:TEXT, TEXT + order]
  out = np.asarray(layer(h, e, mask, angles))
  moved = layer(h[:, whole], e, mask, angles[order])
  np.testing.assert_allclose(moved, out[:, whole], atol=1e-5)
  unmoved = layer(h[:, whole], e, mask, angles)
  assert size(unmoved - out[:, whole]) > 1e-3  # it has a sense of place


def test_the_text_of_the_last_block_stays_as_it_is():
  h, e, mask = states()
  angles = angles_of(GRID, WIDTH // HEADS, 100.0)
  out = block(last=True)(h, e, mask, angles)
  np.testing.assert_array_equal(out[:, :TEXT], h[:, :TEXT])
  out = block(last=False)(h, e, mask, angles)
  assert size(out[:, :TEXT] - h[:, :TEXT]) > 1e-2


@pytest.mark.parametrize('factor', [1.0, 1e4])
def test_logits_are_bounded_whatever_the_weights(factor):
  """|q · k| / √c <= √c max |g_q| max |g_k|, and the scale of W is none."""
  keys = Keys(WIDTH, HEADS, parts=3, dtype=None, rngs=nnx.Rngs(0))
  h, e, _ = states()
  plain, _ = keys.project(jnp.asarray(h), jnp.asarray(e))
  scales = jnp.asarray([[2.0], [3.0]]) * jnp.ones((2, WIDTH // HEADS))
  keys.scale.set_value(scales)
  keys.qkv.kernel.set_value(factor * keys.qkv.kernel[...])
  (q, k, _), _ = keys.project(jnp.asarray(h), jnp.asarray(e))
  c = WIDTH // HEADS
  logits = jnp.abs(q @ k.swapaxes(-1, -2)) / np.sqrt(c)
  assert 0.3 * np.sqrt(c) * 6 < logits.max() <= np.sqrt(c) * 6 * (1 + 1e-6)
  np.testing.assert_allclose(q, 2 * plain[0], rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(k, 3 * plain[1], rtol=1e-3, atol=1e-4)


def test_every_parameter_has_an_effect():
  """But for the embedding of padding, and of words that are not said."""
  graph, params = trained('mmdit', spec=SPEC, text_depth=1)
  rng = np.random.default_rng(2)
  x = rng.normal(size=(B, *IMAGE)).astype(np.float32)
  t, s = np.array([0.9, 0.5], np.float32), np.array([0.2, 0.1], np.float32)
  cond = {'tokens': np.array([[0, 3, 9], [2, 9, 9]], np.int32)}
  cond['mask'] = cond['tokens'] != 9
  grads = jax.grad(lambda p: jnp.square(run(graph, p, x, t, s, cond)).sum())(
    params
  )
  for path, leaf in nnx.to_flat_state(grads):
    assert size(leaf.get_value()) > 1e-6, path
  embedding = grads['text']['embedding']['embedding'].get_value()
  said = np.abs(np.asarray(embedding)).max(-1) > 0
  assert np.flatnonzero(said).tolist() == [0, 2, 3]


def parameters(**options):
  spec = DataSpec(
    (32, 32, 3),
    {
      'tokens': Condition((24,), 'int32', 500),
      'mask': Condition((24,), 'bool', False),
    },
  )
  net = nnx.eval_shape(lambda: MMDiT(spec, **options, rngs=nnx.Rngs(0)))
  return sum(leaf.size for leaf in jax.tree.leaves(nnx.split(net)[1]))


def test_sizes():
  """From a million parameters up."""
  small = parameters(width=64, depth=4, heads=4, patch=4)
  large = parameters(width=384, depth=12, heads=6, patch=2)
  assert 0.6e6 < small < 1.4e6
  assert 60e6 < large < 80e6


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'heads': 3}, 'heads = 3 does not divide width = 64'),
    ({'heads': 32}, 'heads = 32 of width = 64 must have a multiple of 4'),
    ({'theta': 0.0}, 'theta = 0.0 must be above 0'),
    ({'patch': 3}, 'patch = 3 does not divide 4 x 6'),
    ({'null': 'zero'}, "null = 'zero' must be one of 'empty', 'learnt'"),
    ({'text_depth': -1}, 'text_depth = -1 must be at least 0'),
  ],
)
def test_options_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    MMDiT(SPEC, **options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize('option', [{'text_depth': 1}, {'null': 'learnt'}])
def test_options_of_text_have_no_effect_without_any(option):
  with pytest.raises(ValueError, match='has no effect: these examples have no'):
    MMDiT(DataSpec.labelled(IMAGE, 3), **option, rngs=nnx.Rngs(0))
