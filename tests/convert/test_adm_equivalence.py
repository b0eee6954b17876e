"""With PyTorch's weights the network is what the weights were made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert import adm_by_hand
from convert.test_adm import SIDE, built, drawn
from flax import nnx

from flowdistill.convert import CONVERTERS
from flowdistill.training.named_arrays import by_name

WEIGHTS = CONVERTERS['adm']
HEAD = 4  # channels, so that there is more than one


@pytest.mark.parametrize(
  'branch',
  ['default', 'no_label', pytest.param('levels', marks=pytest.mark.slow)],
)
def test_it_answers_as_the_original_at_the_time_that_is_mirrored(branch):
  """With two labels, and with the null label, which is zero in theirs."""
  theirs, shapes = drawn(branch)
  ours, (graph, params) = WEIGHTS.from_torch(theirs, shapes), built(branch)
  leaves = [
    jnp.asarray(ours[path] if path in ours else np.ones(leaf.shape))
    for path, leaf in by_name(params).items()
  ]
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  rng = np.random.default_rng(1)
  x = rng.normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
  t = np.array([0.999, 0.5, 0.02], np.float32)
  label = np.array([0, 4, 5])
  one_hot = None if branch == 'no_label' else np.eye(6)[label][:, :5]
  v = adm_by_hand.velocity(
    theirs, x.astype(float), 999 * (1 - t), one_hot, HEAD
  )
  cond = {'label': label}
  u = jax.jit(lambda p: nnx.merge(graph, p)(x, t, t, cond))(params)
  assert np.abs(v).max() > 0.1
  np.testing.assert_allclose(u, -v, atol=1e-4)
