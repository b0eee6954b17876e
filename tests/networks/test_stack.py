"""A stack is its layers one after the other, in any way to run it."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.dit import DiT
from flowdistill.networks.stack import (
  FEW,
  REMAT,
  Stack,
  constrain_layer_inputs,
  unstacked,
)
from flowdistill.planning.flops import flops

B, WIDTH = 3, 8
DEPTHS = pytest.mark.parametrize('depth', [1, 2, FEW, FEW + 1, 7])


class Layer(nnx.Module):
  """h + tanh(W h + e), and dropout."""

  def __init__(self, *, rngs):
    self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
    self.dropout = nnx.Dropout(0.5)

  def __call__(self, h, e, *, key):
    new = jnp.tanh(self.linear(h) + e)
    return h + self.dropout(new, deterministic=key is None, rngs=key)


def make(depth, remat=None):
  stack = Stack(
    lambda rngs: Layer(rngs=rngs), depth, remat=remat, rngs=nnx.Rngs(0)
  )
  return nnx.split(stack)


def problem():
  draws = np.random.default_rng(0).normal(size=(4, B, WIDTH))
  return [jnp.asarray(x) for x in draws]


def close(a, b, atol):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b
  )


def by_hand(params, h, e, key=None):
  """The layers in NumPy's order, each with its slice of the arrays."""
  kernel, bias = (params['each']['linear'][k][...] for k in ('kernel', 'bias'))
  keys = None if key is None else jax.random.split(key, len(kernel))
  for i, (w, b) in enumerate(zip(kernel, bias, strict=True)):
    new = jnp.tanh(h @ w + b + e)
    if keys is not None:
      mask = jax.random.bernoulli(keys[i], 0.5, new.shape)
      new = jnp.where(mask, new / 0.5, 0)
    h = h + new
  return h


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(
  ('depth', 'remat', 'key'),
  [
    (FEW, None, 3),
    (FEW + 2, None, 3),
    (FEW + 2, 'dots', 3),
    (FEW + 2, 'full', None),
    (2, 'full', 3),
  ],
)
def test_value_tangent_and_gradient_are_those_of_the_layers(depth, remat, key):
  """Also the gradient of the tangent, which few-step objectives take."""
  graph, params = make(depth, remat)
  params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
  h, e, dh, de = problem()
  key = None if key is None else jax.random.key(key)

  def stacked(params, h, e):
    return nnx.merge(graph, params)(h, e, key=key)

  def all_of(f):
    def slope(params):
      return jax.jvp(lambda *p: f(params, *p), (h, e), (dh, de))

    def loss(params):
      value, tangent = slope(params)
      return jnp.sum(value**2) + jnp.sum(jnp.sin(tangent))

    return slope(params), jax.grad(loss)(params)

  one = jax.jit(lambda: all_of(stacked))()
  other = jax.jit(lambda: all_of(lambda p, h, e: by_hand(p, h, e, key)))()
  close(one, other, 1e-11)
  assert float(jnp.max(jnp.abs(one[0][1]))) > 0.1


@DEPTHS
def test_no_layer_starts_as_another(depth):
  _, params = make(depth)
  kernel = np.asarray(params['each']['linear']['kernel'][...])
  assert kernel.shape == (depth, WIDTH, WIDTH)
  assert len(np.unique(kernel)) == kernel.size
  np.testing.assert_allclose(kernel.std(), WIDTH**-0.5, rtol=0.25)


@DEPTHS
def test_a_network_without_stacks_has_its_layers_by_number(depth):
  graph, params = make(depth)
  h, e, *_ = problem()
  whole = nnx.Dict(blocks=nnx.merge(graph, params))
  answer = whole.blocks(h, e)
  loop = unstacked(whole).blocks
  names = ['.'.join(map(str, p)) for p, _ in nnx.iter_modules(whole)]
  assert {f'blocks.{i}.linear' for i in range(depth)} <= set(names)
  close(loop(h, e), answer, 1e-5)


def equations(depth, remat=None):
  graph, params = make(depth, remat)
  h, e, *_ = problem()

  def loss(params):
    return jnp.sum(nnx.merge(graph, params)(h, e))

  return len(str(jax.make_jaxpr(jax.grad(loss))(params)).splitlines())


@pytest.mark.parametrize('remat', [None, *REMAT])
def test_a_deep_program_is_as_long_as_one_that_is_just_scanned(remat):
  assert equations(57, remat) == equations(FEW + 1, remat)
  assert equations(2) < equations(FEW)  # written out


@pytest.mark.parametrize('remat', [None, *REMAT])
def test_work_is_that_of_the_layers_and_of_rematerialisation(remat):
  """A gradient through a product is two more; 'full' makes it once again."""
  graph, params = make(7, remat)
  h, e, *_ = problem()

  def loss(params):
    return jnp.sum(nnx.merge(graph, params)(h, e))

  product = 2 * B * WIDTH * WIDTH
  found = flops(jax.grad(loss), params) / product
  # The input of the first layer has no gradient, but a scan makes it.
  assert found == 7 * (4 if remat == 'full' else 3)


def kept(remat, depth=32):
  """Bytes that the compiled gradient holds for itself."""
  graph, params = make(depth, remat)
  h = jnp.zeros((512, WIDTH))

  def loss(params):
    return jnp.sum(nnx.merge(graph, params)(h, h))

  compiled = jax.jit(jax.grad(loss)).lower(params).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_what_is_rematerialised_is_not_saved():
  """Of a layer, in arrays like h: its input and tanh; and less.

  Without rematerialisation XLA may keep as much as with 'dots', or more.
  """
  everything, dots, full = (kept(remat) for remat in (None, 'dots', 'full'))
  one = 32 * 512 * WIDTH * 4
  assert full < 1.5 * one < dots < 2.5 * one
  assert everything > 1.5 * one


def seconds_to_compile(depth):
  model = nnx.eval_shape(
    lambda: DiT(DataSpec.labelled((8, 8, 1), 10), depth=depth, rngs=nnx.Rngs(0))
  )
  graph, params = nnx.split(model)
  x, t = jnp.zeros((8, 8, 8, 1)), jnp.zeros(8)

  def loss(params):
    def u(x, t):
      label = {'label': jnp.zeros(8, jnp.int32)}
      return nnx.merge(graph, params)(x, t, t, label)

    return jnp.sum(jax.jvp(u, (x, t), (x, t))[1] ** 2)

  lowered = jax.jit(jax.grad(loss)).lower(params)
  start = time.perf_counter()
  lowered.compile()
  return time.perf_counter() - start


@pytest.mark.slow
def test_57_blocks_compile_in_at_most_twice_the_time_of_4():
  seconds_to_compile(1)
  few, many = (seconds_to_compile(depth) for depth in (4, 57))
  assert many < 2 * few


@DEPTHS
def test_the_input_of_a_layer_is_constrained(depth):
  """Once, in a scan once for all layers; and nothing is left behind."""
  graph, params = make(depth)
  h, e, *_ = problem()
  seen = []

  def double(x):
    seen.append(x.shape)
    return 2 * x

  def run():
    return nnx.merge(graph, params)(h, e)

  plain = run()
  with constrain_layer_inputs(double):
    doubled = run()
  assert seen == [(B, WIDTH)]
  assert float(jnp.max(jnp.abs(doubled - plain))) > 0.1
  np.testing.assert_array_equal(run(), plain)
