"""With published weights SiT is what they were made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert import sit_by_hand
from convert.test_sit import CLASSES, SIDE, built, drawn
from flax import nnx

from flowdistill.convert import CONVERTERS

HEADS, DEPTH = 2, 5  # so that a scan runs the blocks
BRANCHES = {
  'sit': {'time': 'sit', 'variance': True, 'patch': 2},
  'repa': {'time': 'repa', 'patch': 4},
  'mean_flow': {'time': 'mean_flow', 'patch': 2},
}


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('branch', BRANCHES)
def test_it_answers_as_the_original(branch):
  """Value and derivative, with two labels and the null label."""
  options = {**BRANCHES[branch], 'heads': HEADS, 'depth': DEPTH}
  theirs, shapes = drawn(**options)
  ours = CONVERTERS['sit'].from_torch(theirs, shapes)
  graph, params = built(**options)
  leaves = [
    jnp.asarray(ours.get(path, np.ones(shape)), np.float64)
    for path, shape in shapes.items()
  ]
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  rng = np.random.default_rng(1)
  x, dx = rng.normal(size=(2, 3, SIDE, SIDE, 2))
  t, label = np.array([0.95, 0.5, 0.02]), np.array([0, CLASSES - 1, CLASSES])
  s = np.array([0.3, 0.5, 0.0]) if branch == 'mean_flow' else t

  def by_hand(h):
    """At a distance h along dx and the time, t and s alike."""
    how = {'heads': HEADS, 'mirrored': branch == 'sit'}
    at = (x + h * dx, t + h, s + h)
    return sit_by_hand.velocity(theirs, *at, label, **how)

  @jax.jit
  def answer(params):
    def u(h):
      at = (x + h * dx, t + h, s + h)
      return nnx.merge(graph, params)(*at, {'label': label})

    return jax.jvp(u, (0.0,), (1.0,))

  value, slope = answer(params)
  v, h = by_hand(0), 1e-5
  assert np.abs(v).max() > 0.1
  np.testing.assert_allclose(value, v, rtol=1e-10, atol=1e-10)
  near, far = by_hand(h) - by_hand(-h), by_hand(2 * h) - by_hand(-2 * h)
  np.testing.assert_allclose(
    slope, (8 * near - far) / (12 * h), rtol=1e-6, atol=1e-6
  )
