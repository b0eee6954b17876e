"""Parameters in the memory of the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.build.models import Model
from flowdistill.networks.offload import (
  fetched,
  fetched_but_stacks,
  is_on_host,
  is_stacked,
)
from flowdistill.networks.stack import Stack
from flowdistill.training.mesh import make_mesh
from flowdistill.training.sharding import HOST, Layout

LAYOUT = Layout(make_mesh())
WIDTH = 64


class Network(nnx.Module):
  """A linear layer before a stack of them."""

  def __init__(self, depth, remat, rngs):
    self.first = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
    self.layers = Stack(lambda rngs: Layer(rngs), depth, remat=remat, rngs=rngs)

  def __call__(self, x):
    return self.layers(self.first(x))


class Layer(nnx.Module):
  """h + tanh(linear(h))."""

  def __init__(self, rngs):
    self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

  def __call__(self, h, key=None):
    del key
    return h + jnp.tanh(self.linear(h))


def made(depth=6, remat=None):
  model = Model(*nnx.split(Network(depth, remat, nnx.Rngs(0))))
  far = LAYOUT.on_host().shardings(model.params)
  return model, jax.device_put(model.params, far)


@pytest.mark.parametrize('depth', [2, 6])
def test_the_answer_is_the_same_to_the_bit(depth):
  model, far = made(depth)
  x = jax.random.normal(jax.random.key(0), (4, WIDTH))
  apply = jax.jit(model.apply)
  near, other = apply(model.params, x), apply(far, x)
  np.testing.assert_array_equal(near, other)
  tangent = jax.jit(
    lambda p, x: jax.jvp(lambda x: model.apply(p, x), (x,), (x,))
  )
  for a, b in zip(tangent(model.params, x), tangent(far, x), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_layer_is_fetched_in_the_scan_and_the_rest_before():
  model, far = made()
  kinds = {x.sharding.memory_kind for x in jax.tree.leaves(far)}
  assert kinds == {HOST}
  assert all(map(is_on_host, jax.tree.leaves(far)))
  assert not any(map(is_on_host, jax.tree.leaves(model.params)))
  for path, x in jax.tree.leaves_with_path(fetched_but_stacks(far)):
    assert is_on_host(x) == is_stacked(path)
  assert not any(map(is_on_host, jax.tree.leaves(fetched(far))))
  program = jax.make_jaxpr(model.apply)(far, jnp.zeros((4, WIDTH)))
  (scan,) = [e for e in program.eqns if e.primitive.name == 'scan']
  shapes = [
    [*equation.outvars[0].aval.shape]
    for equation in scan.params['jaxpr'].eqns
    if equation.primitive.name == 'device_put'
  ]
  assert sorted(shapes) == [[WIDTH], [WIDTH, WIDTH]]


def test_rematerialised_layers_are_fetched_again():
  """The backward pass does not keep them: it has two scans that fetch."""
  for remat, times in ((None, 1), ('dots', 2)):
    model, far = made(remat=remat)

    def loss(x, model=model, far=far):
      return model.apply(far, x).sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones((4, WIDTH))))
    assert text.count(f'f32[{WIDTH},{WIDTH}] = device_put') == 1 + times
  near = jax.grad(lambda x: model.apply(model.params, x).sum())
  x = jax.random.normal(jax.random.key(0), (4, WIDTH))
  np.testing.assert_allclose(jax.grad(loss)(x), near(x), rtol=1e-6)
