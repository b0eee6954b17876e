"""With PyTorch's weights the network is what the weights were made for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert import ncsnpp_by_hand
from flax import nnx

from flowdistill.convert import CONVERTERS, ncsnpp
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.ncsnpp import NCSNpp
from flowdistill.training.named_arrays import by_name

WEIGHTS = CONVERTERS['ncsnpp']
SHAPE = (4, 4, 3)
DEFAULT = {
  'nf': 4,
  'res_blocks': 1,
  'ch_mult': (1, 2),
  'attention': (2,),
  'skip_rescale': True,
  'resblock_type': 'biggan',
  'embedding_type': 'positional',
  'fir': False,
  'progressive': 'none',
  'progressive_input': 'none',
}
SKIPS = {'progressive': 'output_skip', 'progressive_input': 'input_skip'}
RESIDUAL = {'progressive': 'residual', 'progressive_input': 'residual'}
BRANCHES = {
  'default': {},
  'ddpm': {'resblock_type': 'ddpm', 'skip_rescale': False, **SKIPS},
  'ddpm_fir': {'resblock_type': 'ddpm', 'fir': True, **RESIDUAL},
  'fourier': {'embedding_type': 'fourier', 'fir': True, **SKIPS},
  'residual': {'skip_rescale': False, **RESIDUAL},
}


@pytest.mark.parametrize('branch', BRANCHES)
def test_it_answers_as_the_original_at_the_time_that_is_mirrored(branch):
  options, rng = DEFAULT | BRANCHES[branch], np.random.default_rng(0)
  build = functools.partial(NCSNpp, DataSpec(SHAPE), **options)
  net = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
  graph, params = nnx.split(net)
  shapes = {path: x.shape for path, x in by_name(params).items()}

  def drawn(shape):  # in torch's layouts the first axis is what comes out
    scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.5
    return (scale * rng.normal(size=shape)).astype(np.float32)

  rules = ncsnpp.make_rules(shapes)
  theirs = {
    r.theirs: drawn(r.write(np.empty(shapes[r.ours])).shape) for r in rules
  }
  ours = WEIGHTS.from_torch(theirs, shapes)
  leaves = [
    jnp.asarray(ours[path] if path in ours else drawn(shape))
    for path, shape in shapes.items()
  ]
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  x = rng.normal(size=(3, *SHAPE)).astype(np.float32)
  t = np.array([0.999, 0.5, 0.02], np.float32)
  v = ncsnpp_by_hand.velocity(theirs, x.astype(float), 999 * (1 - t), options)
  u = jax.jit(lambda p: nnx.merge(graph, p)(x, t, t, {}))(params)
  assert np.abs(v).max() > 0.1
  np.testing.assert_allclose(u, -v, atol=1e-4)
