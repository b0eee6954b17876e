"""The cost of sharding along one mesh axis, on programs whose cost is known."""

import jax
import jax.numpy as jnp
import pytest

from flowdistill.planning.partition import sent, shard_bytes

B, N, M, PARTS = 8, 16, 64, 4
X = jax.ShapeDtypeStruct((B, N), jnp.float32)
UP = jax.ShapeDtypeStruct((N, M), jnp.float32)
DOWN = jax.ShapeDtypeStruct((M, N), jnp.float32)
REDUCED, GATHERED = 'all-reduce', 'all-gather'


def cost(f, *args, axes):
  return dict(sent(jax.make_jaxpr(f)(*args), axes, PARTS))


def layer(x, up, down):
  return jax.nn.gelu(x @ up) @ down


def test_a_column_and_a_row_are_one_all_reduce():
  found = cost(layer, X, UP, DOWN, axes=[None, 1, 0])
  assert found == {REDUCED: 4 * B * N}


def test_their_gradient_is_one_more():
  """Of what went in; the weights' own stay in their pieces."""

  def value(x, up, down):
    return jnp.sum(layer(x, up, down) ** 2)

  every = jax.value_and_grad(value, (0, 1, 2))
  found = cost(every, X, UP, DOWN, axes=[None, 1, 0])
  assert found == {REDUCED: 2 * 4 * B * N}
  weights = jax.value_and_grad(value, (1, 2))
  assert cost(weights, X, UP, DOWN, axes=[None, 1, 0]) == {REDUCED: 4 * B * N}


def test_a_tangent_is_one_more_too():
  def tangent(x, up, down):
    return jax.jvp(lambda x: layer(x, up, down), (x,), (x,))

  found = cost(tangent, X, UP, DOWN, axes=[None, 1, 0])
  assert found == {REDUCED: 2 * 4 * B * N}


def test_whole_arrays_cost_nothing():
  assert cost(layer, X, UP, DOWN, axes=[None] * 3) == {}


def test_a_whole_weight_in_a_row_is_cut_for_nothing():
  found = cost(layer, X, UP, DOWN, axes=[None, 1, None])
  assert found == {REDUCED: 4 * B * N}


def test_the_smaller_operand_is_gathered():
  """Of two that are cut along axes that are both kept."""
  found = cost(jnp.matmul, X, UP, axes=[0, 1])
  assert found == {GATHERED: 4 * B * N}


@pytest.mark.parametrize(
  ('f', 'cut', 'expected'),
  [
    (lambda x: x.reshape(2, 4, N), 1, {}),
    (lambda x: x.reshape(B, 4, 4), 1, {}),
    (lambda x: x.reshape(B, 2, 8), 1, {GATHERED: 4 * B * N}),
    (lambda x: x.reshape(B * N), 0, {}),
    (lambda x: x.reshape(B * N), 1, {GATHERED: 4 * B * N}),
    (lambda x: x[:, None], 1, {}),
    (lambda x: x.T, 1, {}),
    (lambda x: x + 1, 1, {}),
    (lambda x: x[:4], 1, {}),
    (lambda x: x[:, :8], 1, {GATHERED: 4 * B * N}),
    (lambda x: jnp.concatenate([x, x]), 0, {GATHERED: 4 * B * N}),
    (lambda x: jnp.concatenate([x, x]), 1, {}),
    (lambda x: jnp.pad(x, ((0, 1), (0, 0))), 1, {}),
    (lambda x: jnp.pad(x, ((0, 1), (0, 0))), 0, {GATHERED: 4 * B * N}),
    (lambda x: jnp.sum(x, 0), 1, {}),
    (lambda x: jnp.sum(x, 1), 1, {REDUCED: 4 * B}),
    (lambda x: jnp.max(x, 1), 1, {REDUCED: 4 * B}),
    (lambda x: jnp.sort(x, 1), 1, {GATHERED: 4 * B * N}),
    (lambda x: jnp.zeros((9, N)).at[1:].add(x), 1, {GATHERED: 4 * B * N}),
    (lambda x: jnp.zeros((9, N)).at[jnp.arange(B)].add(x), 0, {GATHERED: 512}),
  ],
)
def test_one_operation(f, cut, expected):
  assert cost(f, X, axes=[cut]) == expected


@pytest.mark.parametrize(
  ('f', 'axis'),
  [
    (lambda x: x.T, 0),
    (lambda x: x.reshape(B, 1, 4, 4), 2),
    (lambda x: jnp.broadcast_to(x, (3, B, N)), 2),
    (lambda x: jnp.sum(jnp.broadcast_to(x, (3, B, N)), (0, 1)), 0),
    (lambda x: jnp.einsum('bn,kb->kn', x, jnp.ones((5, B))), 1),
    (lambda x: jnp.einsum('bn,bnk->nbk', x, jnp.ones((B, N, 5))), 0),
  ],
)
def test_the_axis_is_followed(f, axis):
  """A sum over it, afterwards, is reduced; one over another is not."""
  shape = jax.eval_shape(f, X).shape
  for i in range(len(shape)):
    found = cost(lambda x, i=i: jnp.sum(f(x), i), X, axes=[1])
    left = 4 * jnp.prod(jnp.array([*shape[:i], *shape[i + 1 :]]))
    assert found == ({REDUCED: left} if i == axis else {})


def test_a_value_is_gathered_once():
  def twice(x):
    return jnp.sort(x, 1) + jnp.flip(x, 1)

  assert cost(twice, X, axes=[1]) == {GATHERED: 4 * B * N}


@pytest.mark.parametrize('wrap', [jax.jit, jax.checkpoint])
def test_a_call_is_opened(wrap):
  found = cost(wrap(layer), X, UP, DOWN, axes=[None, 1, 0])
  assert found == {REDUCED: 4 * B * N}


def test_a_scan_costs_as_often_as_it_runs():
  def deep(x, ups, downs):
    def body(x, w):
      return x + layer(x, *w), None

    return jax.lax.scan(body, x, (ups, downs))[0]

  stacked = [jax.ShapeDtypeStruct((6, *w.shape), w.dtype) for w in (UP, DOWN)]
  found = cost(deep, X, *stacked, axes=[None, 2, 1])
  assert found == {REDUCED: 6 * 4 * B * N}
  found = cost(deep, X, *stacked, axes=[1, 2, 1])  # a carry that is cut
  assert found == {GATHERED: 4 * B * N, REDUCED: 6 * 4 * B * N}


def held(f, *args, axes):
  """Bytes on a device of every value of a program, in its order."""
  jaxpr = jax.make_jaxpr(f)(*args).jaxpr
  size = shard_bytes(jaxpr, axes, PARTS)
  return [size(v) for eqn in jaxpr.eqns for v in eqn.outvars]


def test_of_a_cut_value_a_device_holds_a_piece():
  """Of what the column makes; what the row makes is whole again."""

  def mlp(x, up, down):
    return jnp.tanh(x @ up) @ down

  whole = [4 * B * M, 4 * B * M, 4 * B * N]
  assert held(mlp, X, UP, DOWN, axes=[None] * 3) == whole
  cut = [4 * B * M // PARTS, 4 * B * M // PARTS, 4 * B * N]
  assert held(mlp, X, UP, DOWN, axes=[None, 1, 0]) == cut


def test_a_call_that_is_whole_once_is_whole():
  """Its variables are the same for both."""
  inner = jax.jit(jnp.tanh)

  def twice(a, b):
    return inner(a), inner(b)

  jaxpr = jax.make_jaxpr(twice)(X, X).jaxpr
  inside = jaxpr.eqns[0].params['jaxpr'].jaxpr.eqns[0].outvars[0]
  for axes, part in (([1, 1], PARTS), ([1, None], 1), ([None, None], 1)):
    assert shard_bytes(jaxpr, axes, PARTS)(inside) == 4 * B * N // part


def test_within_a_loop_too():
  def run(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x) * w, None), x, w)[0]

  stacked = jax.ShapeDtypeStruct((3, B, N), jnp.float32)
  jaxpr = jax.make_jaxpr(run)(X, stacked).jaxpr
  body = jaxpr.eqns[0].params['jaxpr'].jaxpr
  inside = body.eqns[0].outvars[0]
  assert shard_bytes(jaxpr, [1, 2], PARTS)(inside) == 4 * B * N // PARTS
  assert shard_bytes(jaxpr, [None, None], PARTS)(inside) == 4 * B * N
