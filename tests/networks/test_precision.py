"""bfloat16 in the large products, and nowhere on the way of the times."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from networks.tiny import NAMES, inputs, make, run, trained

# qkv, logits, values, out; up, down; in NCSN++ q, k, v, logits, values, out.
PRODUCTS = {
  'adm': 4 * 4,
  'dit': 6 * 2,
  'edm2': 4 * 4 + 5,  # and convolutions of 1 x 1
  'edm_adm': 4 * 4,
  'edm_ncsnpp': 3 * 4,
  'mlp': 2,
  'mmdit': 6 * 2,
  'ncsnpp': 3 * 6,
  'sit': 6 * 2,
  'unet': 4 * 4,
}
# Of times, norms, softmax and silu: what would lose most in bfloat16.
FINE = {'cos', 'sin', 'rsqrt', 'reduce_sum', 'exp', 'logistic'}


def both(name):
  """u in float32, and with products in bfloat16, of the same weights."""
  graph, params = trained(name)
  rounded, _ = trained(name, dtype='bfloat16')
  return [functools.partial(run, g, params) for g in (graph, rounded)]


def directions(x, t, s):
  return {
    'x': (jnp.cos(7 * x), 0 * t, 0 * s),
    't': (0 * x, 1 + 0 * t, 0 * s),
    's': (0 * x, 0 * t, 1 + 0 * s),
  }


def tangent(u, point, direction, cond):
  return jax.jvp(lambda *p: u(*p, cond), tuple(point), direction)[1]


def difference(u, point, direction, cond, h):
  ahead, behind = (
    u(*(p + sign * h * d for p, d in zip(point, direction, strict=True)), cond)
    for sign in (1, -1)
  )
  return (ahead - behind) / (2 * h)


def distance(a, b):
  """‖a − b‖ / ‖b‖."""
  return np.linalg.norm(np.ravel(a - b)) / np.linalg.norm(np.ravel(b))


@NAMES
def test_tangents_in_bfloat16_are_within_two_percent(name):
  (fine, coarse), (*point, cond) = both(name), inputs(name)
  off = distance(coarse(*point, cond), fine(*point, cond))
  assert 1e-4 < off < 0.02  # it is bfloat16
  for along, direction in directions(*point).items():
    exact = tangent(fine, point, direction, cond)
    found = tangent(coarse, point, direction, cond)
    assert found.dtype == jnp.float32
    assert 1e-4 < distance(found, exact) < 0.02, along


@NAMES
def test_a_difference_in_bfloat16_is_no_tangent(name):
  """Why a tangent is a jvp: rounding grows as the step gets smaller."""
  (fine, coarse), (*point, cond) = both(name), inputs(name)
  direction = directions(*point)['t']
  exact = tangent(fine, point, direction, cond)
  assert distance(difference(fine, point, direction, cond, 1e-3), exact) < 1e-3
  off = [
    distance(difference(coarse, point, direction, cond, h), exact)
    for h in (1e-2, 1e-3, 1e-4)
  ]
  assert 0.02 < off[0] < off[1] < off[2]
  assert off[1] > 0.2
  assert off[2] > 0.9


@NAMES
def test_only_large_products_are_rounded(name):
  graph, params = trained(name, dtype='bfloat16')
  used = [
    (equation.primitive.name, equation.invars[0].aval.dtype)
    for equation in equations(
      jax.make_jaxpr(functools.partial(run, graph))(params, *inputs(name))
    )
    if equation.invars
  ]
  rounded = [p for p, dtype in used if dtype == jnp.bfloat16]
  assert rounded.count('dot_general') == PRODUCTS[name]
  assert not FINE & set(rounded)
  assert {p for p, _ in used} >= {'cos', 'sin', 'logistic'}


def equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for body in equation.params.values():
      yield from equations(body) if hasattr(body, 'eqns') else ()


@NAMES
def test_parameters_gradients_and_answers_are_float32(name):
  _, fresh = nnx.split(nnx.eval_shape(lambda: make(name, dtype='bfloat16')))
  graph, params = trained(name, dtype='bfloat16')
  grads = jax.eval_shape(
    jax.grad(lambda p: run(graph, p, *inputs(name)).sum()), params
  )
  for tree in (fresh, grads):
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {
      jnp.dtype('float32')
    }
  x, *rest = inputs(name)
  for given in (x, x.astype(jnp.bfloat16)):
    u = jax.eval_shape(functools.partial(run, graph), params, given, *rest)
    assert u.dtype == jnp.float32
