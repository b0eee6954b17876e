"""Reference statistics of other systems, and what is wrong with some."""

import os
import pickle

import numpy as np
import pytest

from flowdistill.convert.reference_statistics import read_reference
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import moments

D, S = 6, 4
RNG = np.random.default_rng(0)
FEATURES, SPATIAL = RNG.standard_normal((50, D)), RNG.standard_normal((50, S))
MU, SIGMA = FEATURES.mean(axis=0), np.cov(FEATURES, rowvar=False)
OTHERS = {'mu_s': SPATIAL.mean(axis=0), 'sigma_s': np.cov(SPATIAL.T)}
IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


def npz(path, **arrays):
  np.savez_compressed(path, **arrays)
  return path


def pkl(path, value, protocol=4):
  path.write_bytes(pickle.dumps(value, protocol))
  return path


def edm2(**more):
  return {'num_images': 50, 'fid': {'mu': MU, 'sigma': SIGMA}, **more}


def read(path, network='inception', length=D, **options):
  return read_reference(path, network=network, length=length, **options)


def assert_equal(found, count=None):
  np.testing.assert_array_equal(found.mean, MU)
  np.testing.assert_allclose(found.covariance, SIGMA, rtol=1e-15)
  assert found.count == count


def test_pytorch_fid_and_edm(tmp_path):
  assert_equal(read(npz(tmp_path / 'x.npz', mu=MU, sigma=SIGMA)))


def test_adm_with_the_spatial_features(tmp_path):
  path = npz(tmp_path / 'x.npz', arr_0=IMAGES, mu=MU, sigma=SIGMA, **OTHERS)
  assert_equal(read(path))
  spatial = read(path, length=S, spatial=True)
  np.testing.assert_array_equal(spatial.mean, OTHERS['mu_s'])


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_edm2(tmp_path, protocol):
  other = {'mu': OTHERS['mu_s'], 'sigma': OTHERS['sigma_s']}
  path = pkl(tmp_path / 'x.pkl', edm2(fd_dinov2=other), protocol)
  assert_equal(read(path), 50)
  found = read(path, network='dinov2_vitl14', length=S)
  np.testing.assert_array_equal(found.mean, other['mu'])


def test_the_convention_is_ours(tmp_path):
  """Over n − 1: the same data are at a distance of 0."""
  found = read(npz(tmp_path / 'x.npz', mu=MU, sigma=SIGMA))
  assert frechet_distance(found, moments(FEATURES)) < 1e-12


def test_float32_and_big_endian_numbers_are_read(tmp_path):
  path = npz(tmp_path / 'x.npz', mu=MU.astype('f4'), sigma=SIGMA.astype('>f8'))
  found = read(path)
  assert found.mean.dtype == found.covariance.dtype == np.float64
  np.testing.assert_allclose(found.mean, MU, rtol=1e-6)


def test_the_name_of_a_file_does_not_matter(tmp_path):
  assert_equal(read(pkl(tmp_path / 'x.npz', edm2())), 50)
  (tmp_path / 'y.npz').write_bytes(b'')
  npz(tmp_path / 'y.npz', mu=MU, sigma=SIGMA).rename(tmp_path / 'y.pkl')
  assert_equal(read(tmp_path / 'y.pkl'))


@pytest.mark.parametrize(
  ('arrays', 'options', 'message'),
  [
    ({'arr_0': IMAGES}, {}, 'must have mu and sigma; it has arr_0. Its images'),
    ({'mu': MU}, {}, 'must have mu and sigma; it has mu$'),
    ({}, {}, 'zip archive'),
    (
      {'mean': MU, 'covariance': SIGMA},
      {},
      'has covariance, mean: it is one of our own',
    ),
    (
      {'mu': MU, 'sigma': SIGMA},
      {'spatial': True},
      'must have mu_s and sigma_s; .* only files of ADM',
    ),
    (
      {'mu': MU, 'sigma': SIGMA},
      {'length': 2048},
      'length 6, and those of inception have 2048: it is a reference of ano',
    ),
    (
      {'mu': np.zeros(2048), 'sigma': np.eye(4)},
      {'network': 'dinov2', 'length': 1024},
      r'length 2048 \(as of Inception\), and those of dinov2 have 1024',
    ),
    ({'mu': MU, 'sigma': SIGMA[:5]}, {}, r'not \[6\] and \[5, 6\]'),
    ({'mu': MU * np.nan, 'sigma': SIGMA}, {}, 'the mean must be finite'),
    ({'mu': MU, 'sigma': SIGMA * np.inf}, {}, 'covariance must be finite'),
    ({'mu': MU, 'sigma': np.triu(SIGMA)}, {}, 'must be symmetric'),
    ({'mu': MU, 'sigma': SIGMA - np.eye(D)}, {}, 'positive semi-definite'),
    ({'mu': MU.astype(int), 'sigma': SIGMA}, {}, 'not int64'),
    ({'mu': np.array([None] * D), 'sigma': SIGMA}, {}, 'Object arrays'),
  ],
)
def test_bad_npz_files_are_refused(tmp_path, arrays, options, message):
  path = npz(tmp_path / 'x.npz', **arrays)
  with pytest.raises(ValueError, match=message) as caught:
    read(path, **options)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('value', 'options', 'message'),
  [
    (
      edm2(),
      {'network': 'dinov2'},
      'must have statistics of dinov2; it has fid',
    ),
    (edm2(), {'network': 'clip'}, 'must have statistics of clip; it has fid'),
    ({'mu': MU}, {}, 'of inception; it has none of those of EDM2'),
    (edm2(), {'spatial': True}, 'of the spatial features of inception'),
    ([1, 2], {}, 'is not of EDM2: a dict of mu and sigma'),
    ({'fid': MU}, {}, 'is not of EDM2: a dict of mu and sigma'),
    ({'fid': {'mu': MU}}, {}, 'fid.sigma is not an array of NumPy'),
    ({'fid': {'mu': [1.0], 'sigma': SIGMA}}, {}, 'fid.mu is not an array'),
    ({1: 2}, {}, 'has a key twice, or one that is not text'),
    (edm2(num_images=1), {}, 'count of features must be at least 2, not 1'),
    (edm2(fid={'mu': MU, 'sigma': -SIGMA}), {}, 'positive semi-definite'),
    (edm2(), {'length': 2048}, 'a reference of another network'),
    (edm2(more=os.system), {}, 'may be code, and is not executed'),
  ],
)
def test_bad_pickles_are_refused(tmp_path, value, options, message):
  path = pkl(tmp_path / 'x.pkl', value)
  with pytest.raises(ValueError, match=message) as caught:
    read(path, **options)
  assert str(path) in str(caught.value)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'is empty'),
    (b'\n<!DOCTYPE html>', 'a web page'),
    (b'version https://git-lfs.github.com/spec/v1', 'git-LFS pointer'),
    (b'PK\x03\x04 and no more', 'zip archive that is cut short or damaged'),
    (b'\x80\x04 and no more', 'cannot be read as the .pkl of EDM2'),
    (b'(dp0\n.', 'must be one of'),
  ],
)
def test_other_files_are_refused(tmp_path, data, message):
  path = tmp_path / 'x.npz'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read(path)


def test_no_file_a_folder_and_a_pipe_are_refused(tmp_path):
  with pytest.raises(ValueError, match='there is no file'):
    read(tmp_path / 'x.npz')
  with pytest.raises(ValueError, match='is a folder'):
    read(tmp_path)
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(ValueError, match='is not a regular file'):
    read(tmp_path / 'pipe')


def test_an_archive_that_expands_too_much_is_refused(tmp_path, monkeypatch):
  path = npz(tmp_path / 'x.npz', mu=np.zeros(9000), sigma=SIGMA)
  monkeypatch.setattr(
    'flowdistill.convert.reference_statistics.LARGEST', 50_000
  )
  with pytest.raises(ValueError, match='must have at most 50000 bytes'):
    read(path)


def test_damaged_files_are_read_or_named(tmp_path):
  rng = np.random.default_rng(0)
  whole = [
    pkl(tmp_path / 'x.pkl', edm2()).read_bytes(),
    npz(tmp_path / 'x.npz', mu=MU, sigma=SIGMA).read_bytes(),
  ]
  path, messages = tmp_path / 'damaged', []
  for i in range(300):
    data = bytearray(whole[i % 2])
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data[: rng.integers(len(data))] if i % 3 else data)
    try:
      read(path)
    except ValueError as error:
      messages.append(str(error))
  assert len(messages) > 150
  assert [m for m in messages if str(path) not in m] == []
