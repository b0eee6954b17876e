"""Low-rank factors: the base at first, merged ones, masks, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.build.lora import Adaptation
from flowdistill.build.models import shape_model
from flowdistill.config.sections import Lora
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.dit import DiT
from flowdistill.networks.lora import (
  adapt,
  merged,
  named,
  remainder,
  unmerged,
)
from flowdistill.networks.mmdit import MMDiT
from flowdistill.networks.unet import UNet

SPEC = DataSpec.labelled((4, 4, 1), 3)
TOKENS = {
  'tokens': Condition((3,), 'int32', 3),
  'mask': Condition((3,), 'bool', False),
}
DIT = {'layers': ('blocks.*.qkv', '*.up'), 'rank': 2, 'alpha': 3.0}


def dit(depth=5):  # so many are scanned
  return DiT(SPEC, width=8, depth=depth, heads=2, rngs=nnx.Rngs(0))


def joint():
  spec = DataSpec(SPEC.shape, {**SPEC.cond, **TOKENS})
  size = {'width': 8, 'depth': 2, 'heads': 2, 'text_depth': 1}
  return MMDiT(spec, **size, rngs=nnx.Rngs(0))


def unet():
  size = {'width': 8, 'res_blocks': 1, 'ch_mult': (1,), 'attention': 4}
  return UNet(SPEC, **size, rngs=nnx.Rngs(0))


def adaptation(make, **options):
  def key():
    return jax.random.key(1)

  return Adaptation(shape_model(make), make, Lora(**options), key, 'lora')


def drawn(tree, scale=0.3):
  """No array is zero."""
  rng = np.random.default_rng(0)

  def draw(x):
    return (scale * rng.normal(size=x.shape)).astype(np.float32)

  return jax.tree.map(draw, tree)


def inputs(n=2, *, text=False):
  rng = np.random.default_rng(1)
  x = rng.normal(size=(n, 4, 4, 1)).astype(np.float32)
  t = np.linspace(0.9, 0.5, n, dtype=np.float32)
  cond = {'label': np.arange(n) % 3}
  if text:
    cond |= {'tokens': np.ones((n, 3), int), 'mask': np.ones((n, 3), bool)}
  return x, t, t / 2, cond


CASES = {
  'dit': (dit, DIT),
  'mmdit': (joint, {'layers': ('*.picture.qkv', '*.text.qkv'), 'rank': 2}),
  'unet': (
    unet,
    {'layers': ('*.conv_in', '*.shift', '*.qkv', 'up.*.out'), 'rank': 2},
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_it_is_its_base_at_first_and_then_what_merging_gives(name):
  make, options = CASES[name]
  found = adaptation(make, **options)
  model, plain = found.model(), found.plain
  base, (*at, cond) = drawn(plain.params), inputs(text=name == 'mmdit')

  @jax.jit
  def adapted(own, base):
    return model.apply(model.whole(own, base), *at, cond)

  alone = jax.jit(lambda params: plain.apply(params, *at, cond))
  own = jax.jit(found.init)()
  np.testing.assert_array_equal(adapted(own, base), alone(base))
  own = drawn(own)
  whole = jax.jit(model.merged)(model.whole(own, base))
  assert jax.tree.structure(whole) == jax.tree.structure(plain.params)
  moved = adapted(own, base)
  assert jnp.max(jnp.abs(moved - alone(base))) > 0.01
  np.testing.assert_allclose(moved, alone(whole), atol=2e-6)


def test_layers_of_a_scan_have_factors_of_their_own():
  found = adaptation(lambda: dit(6), **DIT)
  own = jax.jit(found.init)()
  shapes = {named(p): x.shape for p, x in nnx.to_flat_state(own)}
  assert shapes == {
    'blocks.each.qkv.lora_a': (6, 8, 2),
    'blocks.each.qkv.lora_b': (6, 2, 24),
    'blocks.each.up.lora_a': (6, 8, 2),
    'blocks.each.up.lora_b': (6, 2, 32),
  }
  a = np.asarray(own['blocks']['each']['qkv']['lora_a'][...])
  assert np.abs(a).max() <= 8**-0.5 < 1.2 * np.abs(a).max()
  assert not np.array_equal(a[0], a[1])
  assert not own['blocks']['each']['qkv']['lora_b'][...].any()


@pytest.mark.slow
def test_the_mask_of_a_step_is_the_same_for_primal_and_tangent():
  found = adaptation(dit, **DIT, dropout=0.5)
  model = found.model()
  own, base = drawn(found.model().params), drawn(found.plain.params)
  x, t, s, cond = inputs()

  @jax.jit
  def both(key, h):
    def at(x, t):
      params = model.whole(own, base)
      return model.apply(params, x, t, s, cond, key=key)

    value, slope = jax.jvp(at, (x, t), (x, 0 * t + 1))
    return value, slope, at((1 + h) * x, t + h), at((1 - h) * x, t - h)

  value, slope, more, less = both(jax.random.key(0), 1e-3)
  np.testing.assert_allclose((more - less) / 2e-3, slope, atol=2e-2)
  other = both(jax.random.key(1), 1e-3)[0]
  assert jnp.max(jnp.abs(value - other)) > 0.01


def test_masks_keep_the_mean():
  layer = nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(0))
  whole = nnx.Dict(layer=layer)
  adapt(
    whole,
    rank=4,
    scale=1.0,
    dropout=0.25,
    layers=['layer'],
    key=jax.random.key(0),
  )
  whole.layer.lora_a[...] = whole.layer.lora_b[...] = jnp.eye(4)
  x = jnp.ones((4000, 4))
  plain = x @ layer.kernel[...]
  whole.layer.lora_key = nnx.Variable(jax.random.key_data(jax.random.key(3)))
  branch = whole.layer(x) - plain  # the masked inputs themselves
  np.testing.assert_allclose(branch.mean(0), 1, atol=0.05)
  values = np.unique(np.abs(np.round(np.asarray(branch), 2)))
  np.testing.assert_allclose(values, [0, 1.33], rtol=1e-6)


def test_a_gradient_of_the_factors_forms_none_of_the_base():
  found = adaptation(lambda: dit(6), **DIT)
  model, plain = found.model(), found.plain
  x, t, s, cond = inputs(5)  # no activation has the shape of a kernel

  def loss(own, base):
    def at(x, t):
      return model.apply(model.whole(own, base), x, t, s, cond)

    value, slope = jax.jvp(at, (x, t), (x, 0 * t + 1))
    return jnp.sum(value * slope)

  def everything(base):
    def at(x, t):
      return plain.apply(base, x, t, s, cond)

    value, slope = jax.jvp(at, (x, t), (x, 0 * t + 1))
    return jnp.sum(value * slope)

  kernels = {(8, 24), (8, 32), (8, 48)}
  own = jax.make_jaxpr(jax.grad(loss))(model.params, plain.params)
  full = jax.make_jaxpr(jax.grad(everything))(plain.params)
  assert not kernels & products(own.jaxpr)
  assert kernels <= products(full.jaxpr)


def products(jaxpr):
  """The sorted shapes of all results of matrix products, also in loops."""
  shapes = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      shapes |= {tuple(sorted(v.aval.shape)) for v in eqn.outvars}
    for inner in jax.tree.leaves(
      list(eqn.params.values()), is_leaf=lambda x: hasattr(x, 'eqns')
    ):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns'):
        shapes |= products(inner)
  return shapes


def test_what_merging_loses_is_restored_to_the_bit():
  rng = np.random.default_rng(0)
  scales = 10.0 ** rng.integers(-12, 12, 4000)
  w = (rng.normal(size=4000) * scales).astype(np.float32)
  d = (rng.normal(size=4000) * scales[::-1]).astype(np.float32)
  assert ((w + d) - d != w).mean() > 0.4
  lost = remainder({'w': w}, {'w': w + d})
  back = unmerged({'w': jnp.asarray(w + d)}, lost)['w']
  assert np.asarray(back).tobytes() == w.tobytes()


def test_a_base_in_bfloat16_is_merged_in_float32():
  found = adaptation(dit, **DIT)
  model = found.model()
  base = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.bfloat16), drawn(found.plain.params)
  )
  whole = model.whole(drawn(model.params, 1e-4), base)
  new = merged(nnx.merge(model.graph, whole))
  kernel, old = (
    np.asarray(tree['blocks']['each']['up']['kernel'][...], np.float32)
    for tree in (new, base)
  )
  assert new['blocks']['each']['up']['kernel'][...].dtype == jnp.float32
  assert 0 < np.abs(kernel - old).max() < 1e-6
