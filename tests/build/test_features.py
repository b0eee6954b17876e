"""Feature networks from a file to features, on networks of a few layers."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from convert.test_clip import OURS as CLIP_ARRAYS
from flax import nnx
from networks.features.loading import abstract, answers, filled
from networks.features.test_clip import TINY, TOKENS, make
from networks.features.test_dinov2 import TINY as DINO

from flowdistill.build import features
from flowdistill.build.features import FILES, load_features
from flowdistill.convert.clip import to_torch
from flowdistill.networks.features import FEATURE_NETWORKS, RESIZES
from flowdistill.networks.features.dinov2 import DINOv2
from flowdistill.networks.features.table import FeatureNetwork

TABLE = FeatureNetwork(
  lambda *, rngs: make(TINY), 12, 'pil_cropped', {'image': 10}
)


@pytest.fixture
def file(tmp_path, monkeypatch):
  """Weights of a tiny CLIP, which stands for CLIP ViT-B/32."""
  monkeypatch.setitem(FEATURE_NETWORKS, 'clip_vitb32', TABLE)
  small = dataclasses.replace(FILES['clip_vitb32'], make=lambda: make(TINY))
  monkeypatch.setitem(FILES, 'clip_vitb32', small)
  monkeypatch.setattr(features, 'BATCH', 4)
  np.savez(tmp_path / 'clip.npz', **to_torch(CLIP_ARRAYS, 'openai'))
  return tmp_path / 'clip.npz'


def pictures(n, channels=3):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (n, 16, 20, channels), np.uint8)


def test_every_network_has_rules_and_a_resize():
  assert set(FILES) == set(FEATURE_NETWORKS)
  for network in FEATURE_NETWORKS.values():
    assert network.resize in RESIZES


def test_what_a_row_says_of_it(file):
  found = load_features('clip_vitb32', str(file))
  digest = hashlib.sha256(file.read_bytes()).hexdigest()
  assert (found.name, found.sha256) == ('clip_vitb32', digest)
  assert (found.resize, found.side) == ('pil_cropped', 12)
  other = load_features('clip_vitb32', str(file), resize='tf_bilinear')
  assert other.resize == 'tf_bilinear'
  assert other.prepare(pictures(1)).shape == (1, 12, 12, 3)


@pytest.mark.slow
def test_pictures_become_features_a_batch_at_a_time(file):
  network = load_features('clip_vitb32', str(file))
  x = pictures(6)
  found = network(x)['image']
  assert found.shape == (6, 10) and found.dtype == np.float32
  np.testing.assert_allclose(network(x[4:])['image'], found[4:], rtol=1e-4)
  graph, params = abstract(lambda: make(TINY))
  prepared = RESIZES['pil_cropped'](x, 12)
  expected = answers(graph, filled(params, CLIP_ARRAYS), prepared)['image']
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_captions_are_in_the_same_space(file):
  network = load_features('clip_vitb32', str(file))
  graph, params = abstract(lambda: make(TINY))
  filled_in = filled(params, CLIP_ARRAYS)
  expected = answers(graph, filled_in, TOKENS, method='text')['text']
  found = jax.jit(network.apply_text)(network.params, TOKENS)
  assert found.shape == (2, network.outputs['image'])
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_only_a_clip_knows_captions(file):
  network = load_features('clip_vitb32', str(file))
  graph, params = abstract(lambda: DINOv2(**DINO, rngs=nnx.Rngs(0)))
  other = dataclasses.replace(network, name='dinov2_vits14', graph=graph)
  with pytest.raises(ValueError, match='dinov2_vits14 knows no captions'):
    jax.eval_shape(other.apply_text, params, TOKENS)


def test_grey_pictures_have_three_equal_channels(file):
  network = load_features('clip_vitb32', str(file))
  grey = pictures(2, 1)
  expected = network.prepare(grey.repeat(3, -1))
  np.testing.assert_array_equal(network.prepare(grey), expected)


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (np.zeros((2, 8, 8, 4), np.uint8), r'shape \[2, 8, 8, 4\]; clip_vitb32'),
    (np.zeros((8, 8, 3), np.uint8), r'takes \[n, h, w, 1 or 3\]'),
    (np.zeros((0, 8, 8, 3), np.uint8), r'shape \[0, 8, 8, 3\]'),
    (np.zeros((1, 8, 8, 3), np.float32), 'dtype float32; .* takes uint8'),
  ],
)
def test_what_is_no_picture_is_refused(file, images, message):
  with pytest.raises(ValueError, match=message):
    load_features('clip_vitb32', str(file))(images)


def test_what_is_no_network_is_refused(file, tmp_path):
  with pytest.raises(ValueError, match="network = 'clip_b32' must .*clip_vitb"):
    load_features('clip_b32', str(file))
  with pytest.raises(ValueError, match="resize = 'bilinear' must .*tf_bilin"):
    load_features('clip_vitb32', str(file), resize='bilinear')
  with pytest.raises(ValueError, match=r'there is no file .*x\.pth'):
    load_features('clip_vitb32', str(tmp_path / 'x.pth'))
  np.savez(tmp_path / 'x.npz', **{'fc.weight': np.ones((2, 2), np.float32)})
  with pytest.raises(ValueError, match=r'x\.npz: .* of CLIP have no '):
    load_features('clip_vitb32', str(tmp_path / 'x.npz'))
