"""With published weights EDM2 is what they were made for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert import edm2_by_hand
from convert.derivatives_by_hand import check_derivatives
from flax import nnx

from flowdistill.convert import CONVERTERS, edm2
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2 import EDM2
from flowdistill.training.named_arrays import by_name

WEIGHTS = CONVERTERS['edm2']
SIDE, CLASSES, HEAD = 8, 5, 4  # layers have 2 and 4 heads
OPTIONS = {
  'width': 8,
  'res_blocks': 1,
  'ch_mult': (1, 2),
  'attention': (4,),
  'head_channels': HEAD,
}
BRANCHES = {
  'labels': {},
  'no_label': {'classes': 0, 'fir': True, 'sigma_data': 0.8},
  'clipped': {'gains': {'unet.dec.4x4_in1.emb_gain': 3000.0}},
}


def drawn(shapes, gains):
  """Random arrays by their names, but for some gains."""
  rng = np.random.default_rng(0)
  theirs = {
    r.theirs: rng.normal(size=r.write(np.empty(shapes[r.ours])).shape)
    for r in edm2.make_rules(shapes, SIDE)
  }
  return {n: np.asarray(a, np.float32) for n, a in (theirs | gains).items()}


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('branch', BRANCHES)
def test_it_answers_as_the_original(branch, monkeypatch):
  """With two labels, and the null label, which is zero in theirs."""
  options = OPTIONS | BRANCHES[branch]
  classes, gains = options.pop('classes', CLASSES), options.pop('gains', {})
  spec = DataSpec.labelled((SIDE, SIDE, 3), classes)
  build = functools.partial(EDM2, spec, **options)
  graph, params = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
  shapes = {path: x.shape for path, x in by_name(params).items()}
  theirs = drawn(shapes, gains)
  ours = WEIGHTS.from_torch(theirs, shapes)
  leaves = [
    jnp.asarray(ours.get(path, np.ones(shape)), np.float64)
    for path, shape in shapes.items()
  ]
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  x = np.random.default_rng(1).normal(size=(3, SIDE, SIDE, 3))
  t, label = np.array([0.95, 0.5, 0.02]), np.array([0, 4, 5])
  one_hot = np.eye(CLASSES + 1)[label][:, :classes] if classes else None
  given = {'fir': options.get('fir', False), 'head': HEAD}
  std = options.get('sigma_data', 0.5)
  v = edm2_by_hand.velocity(theirs, x, t, one_hot, std=std, **given)

  @jax.jit
  def answer(params):
    net = nnx.merge(graph, params)
    return net(x, t, t, {'label': label}), net.log_variance(t)

  u, log_variance = answer(params)
  assert np.abs(v).max() > 0.1
  np.testing.assert_allclose(u, v, rtol=1e-10, atol=1e-10)
  np.testing.assert_allclose(
    log_variance,
    edm2_by_hand.log_variance(theirs, t / (1 - t)),
    rtol=1e-10,
    atol=1e-10,
  )
  if branch == 'clipped':
    monkeypatch.setattr(edm2_by_hand, 'LARGEST', np.inf)
    other = edm2_by_hand.velocity(theirs, x, t, one_hot, std=std, **given)
    assert np.abs(v - other).max() > 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
def test_its_derivatives_are_those_of_the_original():
  spec = DataSpec.labelled((SIDE, SIDE, 3), CLASSES)
  build = functools.partial(EDM2, spec, **OPTIONS)
  graph, params = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
  shapes = {path: x.shape for path, x in by_name(params).items()}
  theirs = drawn(shapes, {})
  ours = WEIGHTS.from_torch(theirs, shapes)
  leaves = [
    jnp.asarray(ours.get(path, np.zeros(shape)), np.float64)
    for path, shape in shapes.items()
  ]
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  x = np.random.default_rng(1).normal(size=(3, SIDE, SIDE, 3))
  t, label = np.array([0.95, 0.5, 0.02]), np.array([0, 4, 5])
  one_hot = np.eye(CLASSES + 1)[label][:, :CLASSES]
  check_derivatives(
    second=lambda weights, x, t: edm2_by_hand.velocity(
      weights, x, t, one_hot, head=HEAD
    ),
    apply=lambda p, x, t: nnx.merge(graph, p)(x, t, 0 * t, {'label': label}),
    params=params,
    theirs=theirs,
    point=(x, t),
    write=lambda arrays: WEIGHTS.to_torch(arrays, SIDE),
  )
