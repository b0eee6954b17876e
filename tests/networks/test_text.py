"""Transformers with text: tokens that are attended to where they are real."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import (
  CLASSES,
  IMAGE,
  B,
  changed,
  fresh,
  inputs,
  make,
  run,
  size,
  trained,
)

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.dit import DiT
from flowdistill.networks.options import DEFAULTS
from flowdistill.networks.text import Text, make_layers, mean_of

TOKENS, WIDTH, POOLED = 4, 5, 3
LABELLED = DataSpec.labelled(IMAGE, CLASSES)
TEXT = {
  'text': Condition((TOKENS, WIDTH)),
  'mask': Condition((TOKENS,), 'bool', False),
  'pooled': Condition((POOLED,)),
}
SPEC = DataSpec(IMAGE, {**LABELLED.cond, **TEXT})
NETS = {
  'context': ('dit', {}),
  'cross': ('dit', {'text': 'cross'}),
  'joint': ('mmdit', {}),
  'pixels': ('unet', {}),
}
EVERY = pytest.mark.parametrize('way', NETS)
WORDS = DataSpec(
  IMAGE,
  {
    **LABELLED.cond,
    'tokens': Condition((TOKENS,), 'int32', 9),
    'mask': TEXT['mask'],
  },
)
MASK = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], bool)


def conditioned(dtype=np.float32, mask=MASK):
  """The inputs of a DiT, with a text."""
  rng, (x, t, s, cond) = np.random.default_rng(2), inputs('dit', dtype)
  text = rng.normal(size=(B, TOKENS, WIDTH)).astype(dtype)
  pooled = rng.normal(size=(B, POOLED)).astype(dtype)
  return x, t, s, {**cond, 'text': text, 'mask': mask, 'pooled': pooled}


def net_of(way, weights=np.float32, spec=SPEC, **options):
  """A network with no parameter at zero, as `trained`."""
  name, own = NETS[way]
  return trained(name, weights, spec=spec, **own, **options)


def said(mask=MASK):
  """The inputs of a network of tokens, those of padding at random."""
  x, t, s, cond = inputs('dit')
  tokens = np.random.default_rng(3).integers(0, 9, (B, TOKENS), np.int32)
  return x, t, s, {**cond, 'tokens': tokens, 'mask': mask}


def answer(net, cond, **changes):
  x, t, s, before = conditioned()
  return np.asarray(run(*net, x, t, s, {**before, **cond, **changes}))


def without(params, graph):
  """Of some parameters, those that another network has."""
  kept = dict(nnx.to_flat_state(graph)).keys()
  flat = nnx.to_flat_state(params)
  return nnx.from_flat_state([(p, w) for p, w in flat if p in kept])


@EVERY
def test_real_tokens_have_an_effect_and_padding_has_none(way):
  net = net_of(way)
  text = conditioned()[3]['text']
  u = answer(net, {})
  for i in range(TOKENS):
    moved = text.copy()
    moved[:, i] += 1
    off = np.abs(answer(net, {'text': moved}) - u).max((1, 2, 3))
    np.testing.assert_array_equal(off > 1e-3, MASK[:, i])
    np.testing.assert_array_equal(off > 0, MASK[:, i])


@EVERY
def test_padding_has_no_gradient(way):
  """Neither of vectors, nor of the embedding of tokens."""
  x, t, s, cond = conditioned()
  graph, params = net_of(way)

  def total(text):
    return jnp.sin(run(graph, params, x, t, s, {**cond, 'text': text})).sum()

  slopes = np.abs(np.asarray(jax.grad(total)(cond['text']))).max(-1)
  np.testing.assert_array_equal(slopes > 1e-5, MASK)
  np.testing.assert_array_equal(slopes > 0, MASK)


@EVERY
@pytest.mark.parametrize('depth', [0, 1])
def test_tokens_of_padding_have_no_effect(way, depth):
  net, (x, t, s, cond) = net_of(way, spec=WORDS, text_depth=depth), said()
  u = np.asarray(run(*net, x, t, s, cond))
  for i in range(TOKENS):
    tokens = cond['tokens'].copy()
    tokens[:, i] = (tokens[:, i] + 1) % 9
    other = np.asarray(run(*net, x, t, s, {**cond, 'tokens': tokens}))
    off = np.abs(other - u).max((1, 2, 3))
    np.testing.assert_array_equal(off > 1e-4, MASK[:, i])
    np.testing.assert_array_equal(off > 0, MASK[:, i])


@EVERY
def test_the_order_of_words_reaches_the_network(way):
  mask = np.ones_like(MASK)
  for spec, made, name in (
    (SPEC, conditioned(mask=mask), 'text'),
    (WORDS, said(mask), 'tokens'),
  ):
    net, (x, t, s, cond) = net_of(way, spec=spec), made
    turned = {**cond, name: cond[name][:, ::-1]}
    off = run(*net, x, t, s, turned) - run(*net, x, t, s, cond)
    assert size(off) > 1e-3, name


def test_a_transformer_of_words_sees_their_offsets_and_their_order():
  """At initialisation, where the positions that are added are zero."""
  text = Text(
    WORDS, 8, 2, depth=2, null='empty', options=DEFAULTS, rngs=nnx.Rngs(0)
  )

  def states(tokens, mask):
    cond = {'tokens': jnp.asarray([tokens]), 'mask': jnp.asarray([mask], bool)}
    h, real = text(cond)
    return np.asarray(h[real])

  first = states([3, 1, 4, 9], [1, 1, 1, 0])
  later = states([9, 3, 1, 4], [0, 1, 1, 1])
  turned = states([4, 1, 3, 9], [1, 1, 1, 0])
  np.testing.assert_allclose(later, first, atol=1e-5)
  assert size(turned[::-1] - first) > 1e-2


def test_a_head_of_the_text_has_an_even_number_of_channels():
  with pytest.raises(ValueError, match=r'6 / 2 = 3 channels, and must have an'):
    make_layers(6, 2, 1, DEFAULTS, rngs=nnx.Rngs(0))
  assert make_layers(6, 2, 0, DEFAULTS, rngs=nnx.Rngs(0)) is None


@EVERY
def test_one_example_is_as_among_others(way):
  net, (x, t, s, cond) = net_of(way, spec=WORDS), said()
  whole = run(*net, x, t, s, cond)
  for k in range(B):
    one = {name: rows[k : k + 1] for name, rows in cond.items()}
    alone = run(*net, x[k : k + 1], t[k : k + 1], s[k : k + 1], one)
    np.testing.assert_allclose(alone, whole[k : k + 1], atol=1e-5)


@EVERY
def test_a_learnt_null_is_there_where_no_word_is(way):
  mask = MASK.copy()
  mask[1] = False
  x, t, s, cond = said(mask)
  graph, params = net_of(way, spec=WORDS, null='learnt')
  u = np.asarray(run(graph, params, x, t, s, cond))
  moved = changed(
    params, lambda path, w: w[::-1] if path == ('text', 'null') else w
  )
  off = np.abs(np.asarray(run(graph, moved, x, t, s, cond)) - u)
  np.testing.assert_array_equal(off.max((1, 2, 3)) > 1e-4, [False, True, False])
  np.testing.assert_array_equal(off[[0, 2]], 0)


@EVERY
def test_padding_may_be_anything_in_any_order(way):
  net, text = net_of(way), conditioned()[3]['text']
  u = answer(net, {})
  permuted = text.copy()
  permuted[1, 1:] = text[1, [3, 1, 2]]
  broken = np.where(MASK[..., None], text, np.nan)
  for other in (permuted, broken):
    np.testing.assert_array_equal(answer(net, {'text': other}), u)


@pytest.mark.parametrize('dtype', [bool, np.int32, np.float32])
def test_a_mask_of_another_dtype_is_the_same(dtype):
  net = trained('dit', spec=SPEC)
  u = answer(net, {})
  np.testing.assert_array_equal(answer(net, {'mask': MASK.astype(dtype)}), u)


def test_without_a_mask_all_tokens_are_real():
  x, t, s, cond = conditioned(mask=np.ones_like(MASK))
  net = trained('dit', spec=SPEC)
  unmasked = {k: v for k, v in cond.items() if k != 'mask'}
  np.testing.assert_allclose(
    run(*net, x, t, s, unmasked), run(*net, x, t, s, cond), atol=1e-5
  )


@EVERY
def test_the_null_mask_is_the_network_without_text(way):
  """And so is the null condition of the spec, but for `pooled`."""
  graph, params = net_of(way)
  x, t, s, cond = conditioned()
  null = {**cond, 'mask': SPEC.null(cond)['mask']}
  u = run(graph, params, x, t, s, null)
  plain = {n: c for n, c in SPEC.cond.items() if n not in ('text', 'mask')}
  spec = DataSpec(IMAGE, plain)
  name, own = NETS[way]
  bare, theirs = nnx.split(nnx.eval_shape(lambda: make(name, spec=spec, **own)))
  v = run(bare, without(params, theirs), x, t, s, cond)
  np.testing.assert_allclose(u, v, atol=1e-5)
  assert size(u - run(graph, params, x, t, s, cond)) > 1e-2


def test_a_pooled_vector_and_a_label_have_effects():
  net = trained('dit', spec=SPEC)
  u, cond = answer(net, {}), conditioned()[3]
  assert size(answer(net, {'pooled': cond['pooled'] + 1}) - u) > 1e-2
  assert size(answer(net, {'label': cond['label'] * 0 + 1}) - u) > 1e-2


def test_text_leaves_the_other_initial_parameters_as_they_are():
  _, plain = fresh('dit', depth=1, scalars=('guidance',))
  _, params = fresh('dit', depth=1, spec=SPEC, scalars=('guidance',))
  others = dict(nnx.to_flat_state(without(params, plain)))
  assert others.keys() == dict(nnx.to_flat_state(plain)).keys()
  for path, leaf in nnx.to_flat_state(plain):
    np.testing.assert_array_equal(others[path].get_value(), leaf.get_value())
  for layer in (params['text']['projection'], params['pooled']):
    assert 0.01 < np.std(layer['kernel'].get_value()) < 0.04


@pytest.mark.usefixtures('x64')
@EVERY
def test_jvp_is_the_derivative(way):
  """Also along the text, in central differences of order four."""
  net, h = net_of(way, np.float64, text_depth=1), 2e-4
  x, t, s, cond = conditioned(np.float64)
  text = cond['text']
  zero = (0 * x, 0 * t, 0 * s, 0 * text)
  directions = [jnp.cos(7 * x), 1 + 0 * t, 1 + 0 * s, jnp.cos(5 * text)]

  def u(x, t, s, text):
    return run(*net, x, t, s, {**cond, 'text': text})

  @jax.jit
  def derivative(*direction):
    return jax.jvp(u, (x, t, s, text), direction)[1]

  for i, along in enumerate(directions):
    direction = (*zero[:i], along, *zero[i + 1 :])

    def moved(h, direction=direction):
      steps = zip((x, t, s, text), direction, strict=True)
      return u(*(p + h * d for p, d in steps))

    near, far = moved(h) - moved(-h), moved(2 * h) - moved(-2 * h)
    slope, difference = derivative(*direction), (8 * near - far) / (12 * h)
    assert size(slope) > 1e-2, i
    assert size(slope - difference) < 1e-7 * size(slope), i


@pytest.mark.slow
@EVERY
def test_a_rematerialised_scan_has_the_same_value_tangent_and_gradient(way):
  *point, cond = conditioned()
  point, ones = tuple(point), tuple(map(jnp.ones_like, point))

  def gradient(**options):
    graph, params = net_of(way, text_depth=1, **options)

    def loss(params):
      u, du = jax.jvp(
        lambda *p: run(graph, params, *p, cond), tuple(point), ones
      )
      return jnp.square(u).mean() + jnp.square(du).mean()

    return jax.jit(jax.value_and_grad(loss))(params)

  unrolled, scanned = gradient(), gradient(remat='full')
  assert size(unrolled[1]['text']['projection']['kernel'].get_value()) > 1e-3
  leaves = zip(*map(jax.tree.leaves, (unrolled, scanned)), strict=True)
  for a, b in leaves:
    np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3)


@EVERY
def test_in_bfloat16_it_is_close(way):
  fine, coarse = (
    net_of(way, text_depth=1, dtype=dtype) for dtype in ('float32', 'bfloat16')
  )
  u, rounded = answer(fine, {}), answer(coarse, {})
  off = np.linalg.norm(rounded - u) / np.linalg.norm(u)
  assert rounded.dtype == np.float32
  assert 1e-4 < off < 0.02


@pytest.mark.parametrize(
  ('cond', 'message'),
  [
    ({'text': Condition((4,))}, "'text' has shape [4]; it must be [n, d]"),
    (
      {'text': Condition((4, 5)), 'mask': Condition((3,))},
      "'mask' has shape [3]; it must be [n] of 'text' [n, d]",
    ),
    ({'mask': Condition((4,))}, "'mask' has shape [4]; it must be [n] of"),
    ({'pooled': Condition(())}, "'pooled' has shape []; it must be [d]"),
    ({'tokens': Condition((4, 5))}, "'tokens' has shape [4, 5]; it must be [n"),
    (
      {'tokens': Condition((4,)), 'mask': Condition((3,))},
      "'mask' has shape [3]; it must be [n] of 'tokens' [n]",
    ),
  ],
)
def test_shapes_that_do_not_fit_raise(cond, message):
  with pytest.raises(ValueError, match=f'^condition {re.escape(message)}'):
    DiT(DataSpec(IMAGE, cond), rngs=nnx.Rngs(0))


def test_text_and_tokens_exclude_each_other():
  cond = {'text': Condition((4, 5)), 'tokens': Condition((4,), 'int32', 9)}
  with pytest.raises(ValueError, match="not have both 'text' and 'tokens'"):
    DiT(DataSpec(IMAGE, cond), rngs=nnx.Rngs(0))


def test_text_is_seen_in_one_of_two_ways():
  with pytest.raises(ValueError, match="^text = 'corss' must be one of"):
    DiT(SPEC, text='corss', rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
  ('width', 'message'),
  [(0, 'text_width = 0 must be at least 1'), (6, 'must be a multiple of 4')],
)
def test_the_text_of_a_unet_has_a_width(width, message):
  with pytest.raises(ValueError, match=message):
    nnx.eval_shape(lambda: make('unet', spec=SPEC, text_width=width))


def test_the_mean_of_real_tokens():
  text = np.arange(24.0).reshape(2, 4, 3)
  real = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)
  expected = [text[0, [0, 2]].mean(0), np.zeros(3)]
  np.testing.assert_allclose(mean_of(text, real), expected)
