"""VGG16 against torchvision's on random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.features.loading import (
  abstract,
  answers,
  assert_close,
  filled,
  shapes_of,
)

from flowdistill.convert import vgg16 as names
from flowdistill.networks.features.vgg16 import MEAN, STD, VGG16

GRAPH, PARAMS = abstract(lambda: VGG16(rngs=nnx.Rngs(0)))


def test_shapes_and_number_of_parameters():
  """torchvision's count without the last layer."""
  x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
  found = jax.eval_shape(lambda p, x: nnx.merge(GRAPH, p)(x), PARAMS, x)
  widths = {name: leaf.shape for name, leaf in found.items()}
  assert widths == {'fc2': (2, 4096), 'fc2_relu': (2, 4096)}
  sizes = [leaf.size for leaf in jax.tree.leaves(PARAMS)]
  assert sum(sizes) == 138_357_544 - 1000 * 4097


@pytest.mark.slow
def test_it_is_torchvisions():
  torch = pytest.importorskip('torch')
  models = pytest.importorskip('torchvision.models')
  torch.manual_seed(0)
  theirs = models.vgg16(weights=None).eval()
  weights = {n: w.numpy() for n, w in theirs.state_dict().items()}
  read = {n: weights[n] for n in names.wanted(weights)}
  params = filled(PARAMS, names.from_torch(read, shapes_of(PARAMS)))
  x = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype('f4')
  normal = (x / 255 - np.float32(MEAN)) / np.float32(STD)
  with torch.no_grad():
    normal = torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())
    h = theirs.features(normal).flatten(1)
    expected = theirs.classifier[:4](h).numpy()
  found = answers(GRAPH, params, x)
  assert_close(found['fc2'], expected)
  assert_close(found['fc2_relu'], np.maximum(expected, 0))
