"""Samples that are written in parts are those that are written at once."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from flowdistill.figures.images import pixels
from flowdistill.figures.samples import FORMS, file_names, write_samples

RNG = np.random.default_rng(0)


def write(folder, x, forms=FORMS, parts=(2, 5)):
  folder.mkdir()
  return list(write_samples(folder, len(x), np.split(x, parts), forms))


@pytest.mark.parametrize(
  'shape', [(7, 4, 5, 1), (7, 4, 5, 3), (7, 2), (7, 3, 9)]
)
def test_an_npz_has_the_bytes_of_numpy(tmp_path, shape):
  x = RNG.normal(size=shape).astype(np.float32)
  assert write(tmp_path / 'out', x, ['npz']) == [2, 5, 7]
  np.savez(tmp_path / 'whole.npz', x0=x)
  members = []
  for path in (tmp_path / 'out' / 'samples.npz', tmp_path / 'whole.npz'):
    with zipfile.ZipFile(path) as archive:
      assert archive.namelist() == ['x0.npy']
      members.append(archive.read('x0.npy'))
  assert members[0] == members[1]
  with np.load(tmp_path / 'out' / 'samples.npz') as saved:
    np.testing.assert_array_equal(saved['x0'], x)


@pytest.mark.parametrize('channels', [1, 3])
def test_pictures_are_as_many_as_samples(tmp_path, channels):
  x = RNG.uniform(-1, 1, (7, 4, 5, channels)).astype(np.float32)
  write(tmp_path / 'out', x, ['png', 'grid', 'npz', 'npz'])
  names = sorted(path.name for path in (tmp_path / 'out').iterdir())
  wanted = [f'{i:05d}.png' for i in range(7)] + ['grid.png', 'samples.npz']
  assert names == wanted
  for i, expected in enumerate(pixels(x)):
    found = np.asarray(Image.open(tmp_path / 'out' / f'{i:05d}.png'))
    np.testing.assert_array_equal(found, expected)
  assert file_names(7, FORMS, x.shape) == {
    'samples.npz': 1,
    '.png': 7,
    'grid.png': 1,
  }


def test_points_have_no_pictures(tmp_path):
  write(tmp_path / 'out', np.zeros((7, 2), np.float32))
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['samples.npz']
  assert file_names(7, FORMS, (7, 2)) == {'samples.npz': 1}
