"""A DiT with text: tokens that are attended to where they are real."""

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
  fresh,
  inputs,
  make,
  run,
  size,
  trained,
)

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.dit import DiT

TOKENS, WIDTH, POOLED = 4, 5, 3
LABELLED = DataSpec.labelled(IMAGE, CLASSES)
TEXT = {
  'text': Condition((TOKENS, WIDTH)),
  'mask': Condition((TOKENS,), 'bool', False),
  'pooled': Condition((POOLED,)),
}
SPEC = DataSpec(IMAGE, {**LABELLED.cond, **TEXT})
MASK = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], bool)


def conditioned(dtype=np.float32, mask=MASK):
  """The inputs of a DiT, with a text."""
  rng, (x, t, s, cond) = np.random.default_rng(2), inputs('dit', dtype)
  text = rng.normal(size=(B, TOKENS, WIDTH)).astype(dtype)
  pooled = rng.normal(size=(B, POOLED)).astype(dtype)
  return x, t, s, {**cond, 'text': text, 'mask': mask, 'pooled': pooled}


def answer(net, cond, **changes):
  x, t, s, before = conditioned()
  return np.asarray(run(*net, x, t, s, {**before, **cond, **changes}))


def without(params, *names):
  """Parameters without those of some modules of the network."""
  flat = nnx.to_flat_state(params)
  return nnx.from_flat_state([(p, w) for p, w in flat if p[0] not in names])


def test_real_tokens_have_an_effect_and_padding_has_none():
  net = trained('dit', spec=SPEC)
  text = conditioned()[3]['text']
  u = answer(net, {})
  for i in range(TOKENS):
    moved = text.copy()
    moved[:, i] += 1
    off = np.abs(answer(net, {'text': moved}) - u).max((1, 2, 3))
    np.testing.assert_array_equal(off > 1e-3, MASK[:, i])
    np.testing.assert_array_equal(off > 0, MASK[:, i])


def test_padding_may_be_anything_in_any_order():
  net, text = trained('dit', spec=SPEC), conditioned()[3]['text']
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


def test_the_null_mask_is_the_network_without_text():
  """And so is the null condition of the spec, but for `pooled`."""
  graph, params = trained('dit', spec=SPEC)
  x, t, s, cond = conditioned()
  null = {**cond, 'mask': SPEC.null(cond)['mask']}
  u = run(graph, params, x, t, s, null)
  plain = {n: c for n, c in SPEC.cond.items() if n not in ('text', 'mask')}
  spec = DataSpec(IMAGE, plain)
  bare, _ = nnx.split(nnx.eval_shape(lambda: make('dit', spec=spec)))
  v = run(bare, without(params, 'text'), x, t, s, cond)
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
  others = dict(nnx.to_flat_state(without(params, 'text', 'pooled')))
  assert others.keys() == dict(nnx.to_flat_state(plain)).keys()
  for path, leaf in nnx.to_flat_state(plain):
    np.testing.assert_array_equal(others[path].get_value(), leaf.get_value())
  for name in ('text', 'pooled'):
    assert 0.01 < np.std(params[name]['kernel'].get_value()) < 0.04


@pytest.mark.usefixtures('x64')
def test_jvp_is_the_derivative():
  """Also along the text, in central differences of order four."""
  net, h = trained('dit', np.float64, spec=SPEC), 2e-4
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


def test_a_rematerialised_scan_has_the_same_value_tangent_and_gradient():
  *point, cond = conditioned()
  point, ones = tuple(point), tuple(map(jnp.ones_like, point))

  def gradient(**options):
    graph, params = trained('dit', spec=SPEC, **options)

    def loss(params):
      u, du = jax.jvp(
        lambda *p: run(graph, params, *p, cond), tuple(point), ones
      )
      return jnp.square(u).mean() + jnp.square(du).mean()

    return jax.jit(jax.value_and_grad(loss))(params)

  unrolled, scanned = gradient(), gradient(remat='full')
  assert size(unrolled[1]['text']['kernel'].get_value()) > 1e-3
  leaves = zip(*map(jax.tree.leaves, (unrolled, scanned)), strict=True)
  for a, b in leaves:
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-3)


def test_in_bfloat16_it_is_close():
  fine, coarse = (
    trained('dit', spec=SPEC, dtype=dtype) for dtype in ('float32', 'bfloat16')
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
  ],
)
def test_shapes_that_do_not_fit_raise(cond, message):
  with pytest.raises(ValueError, match=f'^condition {re.escape(message)}'):
    DiT(DataSpec(IMAGE, cond), rngs=nnx.Rngs(0))
