"""What samples are measured against: whatever it is in, or why it is not."""

import hashlib
import os
import pickle

import numpy as np
import PIL.Image
import pytest

from flowdistill.build.references import open_reference
from flowdistill.build.statistics import Statistics, write_statistics
from flowdistill.metrics.moments import moments

D, S = 6, 4
RNG = np.random.default_rng(0)
FEATURES, SPATIAL = RNG.standard_normal((50, D)), RNG.standard_normal((50, S))
PAIR = {'mu': FEATURES.mean(axis=0), 'sigma': np.cov(FEATURES.T)}
OTHERS = {'mu_s': SPATIAL.mean(axis=0), 'sigma_s': np.cov(SPATIAL.T)}
IMAGES = RNG.integers(0, 256, (3, 4, 4, 3), np.uint8)
ABOUT = {'weights_sha256': 'ab', 'resize': 'tf_bilinear'}
PROVENANCE = {'network': 'inception', **ABOUT, 'images': 'cd', 'codec': 'png'}


def npz(path, **arrays):
  np.savez(path, **arrays)
  return path


def ours(path, provenance=PROVENANCE):
  write_statistics(path, Statistics(moments(FEATURES), provenance))
  return path


def edm2(path):
  both = {
    'fid': PAIR,
    'fd_dinov2': dict(zip(PAIR, OTHERS.values(), strict=True)),
  }
  path.write_bytes(pickle.dumps({'num_images': 50, **both}))
  return path


def opened(path, network='inception', length=D, **options):
  return open_reference(
    str(path), network=network, length=length, **{'about': ABOUT, **options}
  )


def assert_moments(reference, kind, path, count, pair=PAIR):
  mu, sigma = pair.values()
  np.testing.assert_allclose(reference.moments.mean, mu, atol=1e-14)
  np.testing.assert_allclose(reference.moments.covariance, sigma, atol=1e-14)
  assert (reference.kind, reference.count) == (kind, count)
  assert reference.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def assert_images(reference):
  assert reference.kind == 'images'
  assert reference.moments is reference.sha256 is None
  assert reference.count == len(IMAGES)
  np.testing.assert_array_equal(reference.images[np.arange(3)], IMAGES)


def test_statistics_of_ours(tmp_path):
  path = ours(tmp_path / 'x.npz')
  reference = opened(path)
  assert_moments(reference, 'ours', path, 50)
  assert reference.provenance == PROVENANCE
  assert reference.images is None


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'network': 'vgg16', 'about': {**ABOUT, 'resize': 'pil_bicubic'}},
      'network = "inception" must be "vgg16"; '
      'resize = "tf_bilinear" must be "pil_bicubic"$',
    ),
    (
      {'about': {**ABOUT, 'weights_sha256': 'ba'}},
      'weights_sha256 = "ab" must be "ba"$',
    ),
    ({'about': {**ABOUT, 'output': 'x'}}, 'output = absent must be "x"$'),
    ({'length': S}, 'length 6, and those that are measured have 4'),
  ],
)
def test_statistics_of_ours_of_other_features(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    opened(ours(tmp_path / 'x.npz'), **options)


def test_a_shipped_network_depends_on_nothing_else(tmp_path):
  path = ours(tmp_path / 'x.npz', {'network': 'digits', 'images': 'cd'})
  assert opened(path, 'digits', about=None).count == 50


def test_statistics_of_others(tmp_path):
  path = npz(tmp_path / 'x.npz', **PAIR)
  reference = opened(path)
  assert_moments(reference, 'mu and sigma', path, None)
  assert reference.provenance == {} and reference.images is None
  path = edm2(tmp_path / 'x.pkl')
  assert_moments(opened(path), 'EDM2', path, 50)
  found = opened(path, 'dinov2_vitl14', S)
  assert_moments(found, 'EDM2', path, 50, OTHERS)


def test_adm_has_moments_and_images(tmp_path):
  path = npz(tmp_path / 'x.npz', arr_0=IMAGES, **PAIR, **OTHERS)
  reference = opened(path)
  assert_moments(reference, 'mu and sigma', path, None)
  np.testing.assert_array_equal(reference.images[np.arange(3)], IMAGES)
  assert reference.images is reference.images
  found = opened(path, length=S, spatial=True)
  assert_moments(found, 'mu and sigma', path, None, OTHERS)


@pytest.mark.parametrize(
  ('network', 'length', 'spatial'),
  [
    ('dinov2_vitl14', D, False),
    ('inception', 9, False),
    ('inception', 9, True),
  ],
)
def test_adm_has_only_images_for_other_features(
  tmp_path, network, length, spatial
):
  path = npz(tmp_path / 'x.npz', arr_0=IMAGES, **PAIR, **OTHERS)
  assert_images(opened(path, network, length, spatial=spatial))


def test_the_moments_of_adm_are_of_its_resize(tmp_path):
  path = npz(tmp_path / 'x.npz', arr_0=IMAGES, **PAIR)
  assert_images(opened(path, about={**ABOUT, 'resize': 'pil_bicubic'}))


def test_half_of_the_moments_beside_images(tmp_path):
  path = npz(tmp_path / 'x.npz', arr_0=IMAGES, **PAIR)
  assert_images(opened(path, length=S, spatial=True))


def test_images(tmp_path):
  folder = tmp_path / 'folder'
  folder.mkdir()
  for k, x in enumerate(IMAGES):
    PIL.Image.fromarray(x).save(folder / f'{k}.png')
  assert_images(opened(folder))
  assert_images(opened(npz(tmp_path / 'x.npz', images=IMAGES), 'vgg16'))
  np.save(tmp_path / 'x.npy', IMAGES)
  assert_images(opened(tmp_path / 'x.npy'))


@pytest.mark.parametrize('make', [ours, edm2, lambda p: npz(p, **PAIR)])
def test_content_decides_and_not_a_name(tmp_path, make):
  make(tmp_path / 'x.npz').rename(tmp_path / 'x.zip')
  assert opened(tmp_path / 'x.zip').moments is not None


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda p: None, 'does not exist'),
    (lambda p: p.write_text('text'), "begins with b'text'"),
    (lambda p: p.write_bytes(b'PK\3\4 cut'), 'damaged'),
    (os.mkfifo, 'not a regular file'),
    (lambda p: p.mkdir(), 'has no picture'),
    (lambda p: npz(p, a=IMAGES), "its arrays are 'a'"),
    (lambda p: npz(p, mu=PAIR['mu']), 'must have mu and sigma; it has mu$'),
    (lambda p: npz(p, **OTHERS), 'must have mu and sigma; it has mu_s, sig'),
    (lambda p: npz(p, **PAIR, arr_0=IMAGES / 255), 'arr_0 = float64'),
    (lambda p: npz(p, mu=np.zeros(2048), sigma=np.eye(3)), 'of Inception'),
    (lambda p: npz(p, mean=PAIR['mu'], covariance=PAIR['sigma']), 'written b'),
    (lambda p: p.write_bytes(pickle.dumps({'a': 1})), 'it has none of those'),
    (lambda p: p.write_bytes(b'\x80\x04 cut'), 'cannot be read'),
  ],
)
def test_what_is_no_reference_is_said_to_be(tmp_path, make, message):
  path = tmp_path / 'x.npz'
  make(path)
  with pytest.raises(ValueError, match=message) as caught:
    _ = opened(path).images
  assert str(caught.value).startswith(f'path = {str(path)!r}')
  assert '\n' not in str(caught.value)


def test_no_path():
  with pytest.raises(ValueError, match="path = '' must be .* or statistics of"):
    opened('')
