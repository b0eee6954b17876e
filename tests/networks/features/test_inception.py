"""InceptionV3 against torch-fidelity's on random weights, and its parts."""

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

from flowdistill.convert import inception as names
from flowdistill.networks.features.inception import (
  BLOCKS,
  Inception,
  average_pool,
  max_pool,
)
from flowdistill.training.named_arrays import by_name

GRAPH, SHAPES = abstract(lambda: Inception(rngs=nnx.Rngs(0)))


def test_shapes_and_number_of_parameters():
  """torchvision's count without AuxLogits, with 8 more logits."""
  x = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
  found = jax.eval_shape(
    lambda params, x: nnx.merge(GRAPH, params)(x), SHAPES, x
  )
  widths = {name: leaf.shape for name, leaf in found.items()}
  assert widths == {
    'pool3': (2, 2048),
    'logits': (2, 1008),
    'logits_unbiased': (2, 1008),
    'spatial': (2, 7 * 17 * 17),
  }
  sizes = {name: leaf.size for name, leaf in by_name(SHAPES).items()}
  biases = sum(n for p, n in sizes.items() if p.endswith('bias')) - 1008
  # Theirs has a scale and an offset in place of each bias.
  assert sum(sizes.values()) + biases == 23_834_568 + 8 * 2049


def test_the_average_does_not_count_what_is_outside():
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  found = jax.jit(average_pool)(x)[0, ..., 0]
  expected = [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_maximum_of_windows():
  x = [[0, 1, 2, 9, 4], [5, 6, 7, 8, 3], [-1, -2, -3, -4, -5]]
  x = jnp.array(x, jnp.float32)[None, ..., None]
  halves, all_of_them = jax.jit(lambda x: (max_pool(x, 2), max_pool(x, 1)))(x)
  np.testing.assert_array_equal(halves[0, ..., 0], [[7, 9]])
  np.testing.assert_array_equal(all_of_them[0, ..., 0], [[7, 9, 9]])


def test_only_the_last_block_has_a_maximum_that_keeps_the_size():
  pools = {name: branches[-1][0] for name, branches in BLOCKS.items()}
  assert [n for n, pool in pools.items() if pool == 'maximum'] == ['Mixed_7c']
  assert [n for n, p in pools.items() if p == 'halve'] == [
    'Mixed_6a',
    'Mixed_7a',
  ]


def randomised():
  """torch-fidelity's network with random weights and statistics."""
  torch = pytest.importorskip('torch')
  theirs = pytest.importorskip('torch_fidelity.feature_extractor_inceptionv3')
  network = theirs.FeatureExtractorInceptionV3
  kept = network.get_provided_features_list()
  torch.manual_seed(0)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(theirs, 'load_state_dict_from_url', lambda *_, **__: None)
    patch.setattr(network, 'load_state_dict', lambda *_: None)
    net = network('inception-v3-compat', list(kept))
  for module in net.modules():
    if isinstance(module, torch.nn.Conv2d):
      torch.nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, torch.nn.BatchNorm2d):
      torch.nn.init.uniform_(module.weight, 0.5, 1.5)
      torch.nn.init.normal_(module.bias, std=0.1)
      module.running_mean.normal_(std=0.1)
      module.running_var.uniform_(0.5, 1.5)
  return net


@pytest.mark.slow
def test_it_is_torch_fidelitys():
  torch, original = pytest.importorskip('torch'), randomised()
  weights = {n: w.numpy() for n, w in original.state_dict().items()}
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (2, 299, 299, 3), np.uint8)
  theirs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
  spatial = []
  original.Mixed_6d.branch1x1.register_forward_hook(
    lambda module, inputs, output: spatial.append(output)
  )
  with torch.no_grad():
    found = original(theirs)
  expected = dict(
    zip(original.get_provided_features_list(), found, strict=True)
  )
  params = filled(SHAPES, names.from_torch(weights, shapes_of(SHAPES)))
  ours = answers(GRAPH, params, x.astype(np.float32))
  for name, its in {
    'pool3': expected['2048'],
    'logits': expected['logits'],
    'logits_unbiased': expected['logits_unbiased'],
    'spatial': spatial[0][:, :7].permute(0, 2, 3, 1).reshape(2, -1),
  }.items():
    assert_close(ours[name], its.numpy())
