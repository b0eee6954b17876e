"""With published weights EDM's networks are what they were made for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert import edm_by_hand
from convert.derivatives_by_hand import check_derivatives
from convert.test_edm import BRANCHES, SIDE, built, drawn
from flax import nnx

from flowdistill.convert import CONVERTERS
from flowdistill.networks.edm_preconditioning import SIGMAS

HEAD = 4
X = np.random.default_rng(1).normal(size=(3, SIDE, SIDE, 3))
T, LABEL = np.array([0.95, 0.5, 0.02]), np.array([0, 4, 5])


def both(branch, **more):
  """(second version, ours, our parameters, their weights)."""
  name, options, classes = BRANCHES[branch]
  options = options | more
  graph, params = built(branch, **more)
  theirs, shapes = drawn(branch, **more)
  ours = CONVERTERS[name].from_torch(theirs, shapes)
  leaves = [
    jnp.asarray(ours.get(path, np.zeros(shape)), np.float64)
    for path, shape in shapes.items()
  ]
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  one_hot = np.eye(6)[LABEL][:, :classes] if classes else None
  unet = (
    functools.partial(edm_by_hand.adm, head=HEAD)
    if name == 'edm_adm'
    else functools.partial(edm_by_hand.ncsnpp, fir=options.get('fir', False))
  )

  def second(weights, x, t):
    return edm_by_hand.velocity(
      weights,
      x,
      t,
      one_hot,
      unet=unet,
      precond=options.get('precond', 'edm'),
      std=options.get('sigma_data', 0.5),
    )

  def apply(params, x, t):  # s = 0 has no effect where its embedding is zero
    return nnx.merge(graph, params)(x, t, 0 * t, {'label': LABEL})

  return second, apply, params, theirs


def check(branch, **more):
  second, apply, params, theirs = both(branch, **more)
  v = second(theirs, X, T)
  assert np.abs(v).max() > 0.1
  found = jax.jit(apply)(params, X, T)
  np.testing.assert_allclose(found, v, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('branch', BRANCHES)
def test_it_answers_as_the_original(branch):
  """With two labels, and the null label, which is zero in theirs."""
  check(branch)


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('precond', [kind for kind in SIGMAS if kind != 'edm'])
def test_so_it_does_in_each_preconditioning(precond):
  check('adm' if precond == 'iddpm' else 'ddpmpp', precond=precond)


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('branch', ['ncsnpp', 'adm'])
def test_its_derivatives_are_those_of_the_original(branch):
  second, apply, params, theirs = both(branch)
  name, options, _ = BRANCHES[branch]

  def write(arrays):
    return CONVERTERS[name].to_torch(arrays, SIDE, network=options)

  point = X, T
  check_derivatives(
    second=second,
    apply=apply,
    params=params,
    theirs=theirs,
    point=point,
    write=write,
  )
