"""What every network of the table promises, whatever is inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import (
  CLASSES,
  EVERY,
  NAMES,
  U_NETS,
  B,
  changed,
  fresh,
  inputs,
  make,
  run,
  size,
  trained,
  unlabelled,
)
from oracle import Gaussian

OF_S = 'of_s'  # e₂, the embedding of the second time


def at_start(name, x, t):
  """u at initialisation: 0, and EDM's is the velocity of Gaussian data."""
  rate = Gaussian(0.5).rate(t)[:, None, None, None]
  return rate * x if name.startswith('edm') else 0 * x


@pytest.mark.usefixtures('x64')
@NAMES
def test_jvp_is_the_derivative(name):
  """Against central differences, of order four, in x, in t and in s."""
  net, h = trained(name, np.float64), 2e-4
  x, t, s, cond = inputs(name, np.float64)
  directions = {
    'x': (jnp.cos(7 * x), 0 * t, 0 * s),
    't': (0 * x, jnp.ones(B), 0 * s),
    's': (0 * x, 0 * t, jnp.ones(B)),
  }

  @jax.jit
  def derivative(dx, dt, ds):
    return jax.jvp(lambda *p: run(*net, *p, cond), (x, t, s), (dx, dt, ds))[1]

  for along, (dx, dt, ds) in directions.items():

    def moved(h, dx=dx, dt=dt, ds=ds):
      return run(*net, x + h * dx, t + h * dt, s + h * ds, cond)

    near, far = moved(h) - moved(-h), moved(2 * h) - moved(-2 * h)
    slope, difference = derivative(dx, dt, ds), (8 * near - far) / (12 * h)
    assert slope.dtype == jnp.float64
    assert size(slope) > 1e-2, along
    assert size(slope - difference) < 1e-7 * size(slope), along


@NAMES
def test_at_initialisation_the_second_time_has_no_effect(name):
  """Nor has it when all but its own embedding is no longer what it was."""
  graph, params = fresh(name)
  x, t, s, cond = inputs(name)
  if name != 'mlp':  # the last layer is zero: nothing has
    np.testing.assert_allclose(
      run(graph, params, x, t, s, cond), at_start(name, x, t), atol=1e-6
    )
  _, other = trained(name)
  learnt = dict(nnx.to_flat_state(other))
  params = changed(
    params, lambda path, w: w if OF_S in path else learnt[path].get_value()
  )
  u = run(graph, params, x, t, s, cond)
  np.testing.assert_array_equal(u, run(graph, params, x, t, t, cond))
  assert size(u) > 1e-2
  assert size(u - run(graph, params, x, s, s, cond)) > 1e-3  # t has one


@NAMES
def test_the_velocity_is_the_teachers_whatever_the_second_embedding_is(name):
  x, t, s, cond = inputs(name)
  graph, teacher = trained(name)
  student = changed(teacher, lambda path, w: 3 * w + 1 if OF_S in path else w)
  v = run(graph, teacher, x, t, t, cond)
  np.testing.assert_array_equal(run(graph, student, x, t, t, cond), v)
  jumps = [run(graph, params, x, t, s, cond) for params in (student, teacher)]
  assert size(jumps[0] - jumps[1]) > 1e-2


@NAMES
def test_dropout_is_a_function_of_its_key(name):
  net, arguments = trained(name, dropout=0.5), inputs(name)
  first, again, other = (
    run(*net, *arguments, jax.random.key(k)) for k in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert size(first - other) > 1e-2


@NAMES
def test_without_a_key_there_is_no_dropout(name):
  plain, arguments = trained(name), inputs(name)
  dropped, key = trained(name, dropout=0.5), jax.random.key(0)
  u = run(*plain, *arguments)
  np.testing.assert_array_equal(run(*dropped, *arguments), u)
  np.testing.assert_allclose(run(*plain, *arguments, key), u, atol=1e-5)
  assert size(run(*dropped, *arguments, key) - u) > 1e-2


@NAMES
def test_jvp_goes_through_dropout_with_the_mask_of_the_primal(name):
  net, (x, t, s, cond) = trained(name, dropout=0.5), inputs(name)

  def answer(x):
    return run(*net, x, t, s, cond, jax.random.key(0))

  h, dx = 0.01, jnp.cos(7 * x)
  u, slope = jax.jvp(answer, (x,), (dx,))
  difference = (answer(x + h * dx) - answer(x - h * dx)) / (2 * h)
  np.testing.assert_allclose(u, answer(x), atol=1e-5)
  assert size(slope - difference) < 0.02 * size(slope)


@NAMES
def test_every_label_and_the_null_label_has_its_own_answer(name):
  net, (x, t, s, _) = trained(name), inputs(name)
  u = [
    run(*net, x, t, s, {'label': jnp.full(B, k)}) for k in range(CLASSES + 1)
  ]
  for k in range(CLASSES):
    assert size(u[k] - u[k + 1]) > 1e-3


@NAMES
def test_no_example_depends_on_its_neighbours(name):
  net, (x, t, s, cond) = trained(name), inputs(name)
  mixed = np.array([2, 0, 2])
  part = run(
    *net, x[mixed], t[mixed], s[mixed], {'label': cond['label'][mixed]}
  )
  np.testing.assert_allclose(part, run(*net, x, t, s, cond)[mixed], atol=1e-5)


@EVERY
def test_without_classes_no_label_is_asked_for(name):
  x, t, s, _ = inputs(name)
  net = nnx.eval_shape(lambda: make(name, spec=unlabelled(name)))
  assert net.label is None
  u = jax.eval_shape(functools.partial(run, *nnx.split(net)), x, t, s, {})
  assert u.shape == x.shape


@NAMES
def test_a_time_below_zero_is_another_time(name):
  """The twin branch of TwinFlow asks for u(x, -t, -t)."""
  net, (x, t, s, cond) = trained(name), inputs(name)
  u = run(*net, x, t, t, cond)
  assert size(run(*net, x, -t, -t, cond) - u) > 3e-2
  assert size(run(*net, x, t, -s, cond) - run(*net, x, t, s, cond)) > 3e-2


@NAMES
def test_scalars_have_no_effect_until_they_are_learnt(name):
  """A student that is told its guidance starts as the network that is not."""
  arguments, new = inputs(name), ('guidance', 'guidance_low')
  x, t, s, cond = arguments
  told = cond | {'guidance': jnp.array([1.0, 2.0, 3.0]), 'guidance_low': 0 * t}
  graph, params = fresh(name, scalars=new)
  learnt = dict(nnx.to_flat_state(trained(name)[1]))
  params = changed(
    params,
    lambda path, w: learnt[path].get_value() if path in learnt else w,
  )
  u = run(*trained(name), *arguments)
  np.testing.assert_array_equal(run(graph, params, x, t, s, told), u)


@NAMES
def test_every_scalar_has_an_effect_once_it_is_learnt(name):
  net = trained(name, scalars=('guidance', 'guidance_low'))
  x, t, s, cond = inputs(name)

  def u(guidance, low):
    both = {'guidance': jnp.full(B, guidance), 'guidance_low': jnp.full(B, low)}
    return run(*net, x, t, s, cond | both)

  assert size(u(1.0, 0.0) - u(2.0, 0.0)) > 1e-2
  assert size(u(1.0, 0.0) - u(1.0, 0.5)) > 1e-2
  assert size(u(1.0, 2.0) - u(2.0, 1.0)) > 1e-2  # each has its own embedding


@pytest.mark.slow
@pytest.mark.parametrize('name', U_NETS)
def test_rematerialisation_changes_no_gradient(name):
  arguments, key = inputs(name), jax.random.key(0)

  def gradient(**options):
    graph, params = trained(name, dropout=0.5, **options)

    def loss(params):
      return jnp.square(run(graph, params, *arguments, key)).mean()

    program = jax.make_jaxpr(jax.grad(loss))(params)
    return str(program), jax.jit(jax.grad(loss))(params)

  (_, plain), (program, again) = gradient(), gradient(remat='full')
  assert 'remat' in program
  leaves = zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True)
  for a, b in leaves:
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-3)


@EVERY
def test_a_scalar_that_is_missing_is_named(name):
  net, arguments = trained(name, scalars=('guidance',)), inputs(name)
  with pytest.raises(ValueError, match="cond has .'label'. and no 'guidance'"):
    jax.eval_shape(functools.partial(run, *net), *arguments)
