"""Feature networks of files, as a config names them."""

from typing import ClassVar

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from flowdistill.build.measured import FEATURE_LAWS, PictureFeatures
from flowdistill.build.models import shape_model
from flowdistill.build.placed import Placed
from flowdistill.build.tables import ROOMS
from flowdistill.config.protocols import Features
from flowdistill.flow.pixels import RULE, to_uint8
from flowdistill.networks.features import FEATURE_NETWORKS, FEATURES
from flowdistill.networks.features.inception import Inception
from flowdistill.training.mesh import make_mesh
from flowdistill.training.named_arrays import by_name
from flowdistill.training.sharding import Layout


class Known:
  """A network whose features are known."""

  name, sha256, resize = 'inception', 'abc', 'tf_bilinear'
  outputs: ClassVar = {'pool3': 1, 'logits_unbiased': 1}
  params = 1.0

  def prepare(self, images):
    assert images.dtype == np.uint8
    return images.reshape(len(images), -1).sum(axis=1, keepdims=True)

  def apply(self, params, total):
    return {'pool3': params * total, 'logits_unbiased': -params * total}


def placed(network, main):
  return Placed(PictureFeatures(network, main, batch=2), Layout(make_mesh()))


X = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 4, 4, 1)).astype('f')


def test_pictures_become_bytes_first():
  features = placed(Known(), 'pool3')
  found = features(X)
  total = to_uint8(X).reshape(3, -1).sum(axis=1, keepdims=True)
  np.testing.assert_array_equal(found['features'], total)
  np.testing.assert_array_equal(found['logits'], -total.astype(float))
  assert features.kinds == ('features', 'logits')
  assert features.about == {
    'features': 'inception',
    'weights_sha256': 'abc',
    'resize': 'tf_bilinear',
    'uint8': RULE,
  }


def test_a_network_without_logits_has_none():
  class Other(Known):
    outputs: ClassVar = {'cls': 1, 'more': 1}

    def apply(self, params, total):
      return {'cls': 2 * total, 'more': total}

  found = placed(Other(), 'more')(X)
  assert [*found] == ['features']
  total = to_uint8(X).reshape(3, -1).sum(axis=1, keepdims=True)
  np.testing.assert_array_equal(found['features'], total)
  assert PictureFeatures(Other(), 'more').about['output'] == 'more'


def test_every_network_has_a_name_in_configs():
  assert list(ROOMS[Features]) == [*FEATURES, *FEATURE_NETWORKS, 'several']


@pytest.mark.parametrize('shape', [(2,), (4, 4, 2)])
def test_what_is_no_picture_is_refused(shape):
  with pytest.raises(ValueError, match=r'inception takes images \[h, w, 1 or'):
    PictureFeatures(Known(), 'pool3').check(shape)


BAD = {
  "path = '' must be the file of inception's weights": {},
  "output = 'pool4' must be one of": {'output': 'pool4'},
  'nowhere.pth': {'path': 'nowhere.pth'},
  "resize = 'cubic' must be the name of one": {'path': 'x', 'resize': 'cubic'},
}


@pytest.mark.parametrize('message', BAD)
def test_bad_options(message):
  with pytest.raises(ValueError, match=message):
    FEATURE_LAWS['inception'](**BAD[message])


def weights():
  """Random weights of InceptionV3 under the names of its file."""
  rng = np.random.default_rng(0)
  found = {}
  shapes = shape_model(lambda: Inception(rngs=nnx.Rngs(0))).params
  for name, leaf in by_name(shapes).items():
    layer, _, kind = name.rpartition('.')
    if kind == 'bias':
      continue
    *window, before, after = leaf.shape
    size = (after, before, *window)
    scale = np.sqrt(2 / np.prod(size[1:]))
    weight = (scale * rng.standard_normal(size)).astype(np.float32)
    one, zero = np.ones(after, np.float32), np.zeros(after, np.float32)
    if layer == 'fc':
      found |= {'fc.weight': weight, 'fc.bias': one}
      continue
    norm = {'weight': one, 'bias': zero, 'running_mean': zero}
    norm['running_var'] = one
    found[f'{layer}.conv.weight'] = weight
    found |= {f'{layer}.bn.{k}': v for k, v in norm.items()}
  return found


@pytest.mark.slow
def test_a_file_of_weights(tmp_path):
  path = tmp_path / 'inception.safetensors'
  save_file(weights(), path)
  features = FEATURE_LAWS['inception'](path=str(path))
  found = Placed(features, Layout(make_mesh()))(X)
  assert found['features'].shape == (3, 2048)
  assert found['logits'].shape == (3, 1008)
  assert found['spatial'].shape == (3, 2023)
  assert np.isfinite(found['features']).all()
  assert len({row.tobytes() for row in found['features']}) == 3
  assert features.about['resize'] == 'tf_bilinear'
  assert len(features.about['weights_sha256']) == 64


def test_several_networks_have_names_of_their_own():
  laws = {'a': FEATURE_LAWS['digits'], 'b': FEATURE_LAWS['emoji']}
  found = FEATURE_LAWS['several'](of=laws)
  assert [n.name for n in found.networks] == ['digits', 'emoji']
  with pytest.raises(ValueError, match=r"of has 'digits' twice"):
    FEATURE_LAWS['several'](of=laws | {'c': FEATURE_LAWS['digits']})
  with pytest.raises(ValueError, match=r'of = \{\} must have networks'):
    FEATURE_LAWS['several'](of={})
