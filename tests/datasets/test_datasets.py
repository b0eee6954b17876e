"""What is in each data set: shapes, types, ranges, and the laws of the toys."""

import inspect

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowdistill.config.tiny import FROM_FILES
from flowdistill.datasets import DATASETS
from flowdistill.flow.spec import DataSpec

DRAWN = ('shapes',)  # when they are indexed; splits of them share no index
BUILT_IN = [n for n in DATASETS if n not in (*FROM_FILES, *DRAWN)]
TOYS = ['moons', 'gaussians', 'checkerboard']


def points(name, **options):
  return DATASETS[name](**options).arrays['x0'].astype(np.float64)


def test_larger_digits_are_the_same_ones():
  """Their means over squares are the digits, but for what is interpolated."""
  small, large = (DATASETS['digits'](size=size) for size in (8, 32))
  assert large.spec.shape == (32, 32, 1)
  x0 = large.arrays['x0']
  assert x0.dtype == np.float32
  assert -1 <= x0.min() <= x0.max() <= 1
  means = x0.reshape(-1, 8, 4, 8, 4).mean((2, 4))
  error = means - small.arrays['x0'][..., 0]
  assert np.abs(error).mean() < 0.1
  np.testing.assert_array_equal(large.arrays['label'], small.arrays['label'])


@pytest.mark.parametrize('size', [0, 4, 12])
def test_digits_of_other_sizes_are_refused(size):
  with pytest.raises(
    ValueError, match=f'size = {size} must be a positive multip'
  ):
    DATASETS['digits'](size=size)


def test_digits_are_all_of_scikit_learns():
  source = DATASETS['digits']()
  x0, label = source.arrays['x0'], source.arrays['label']
  assert source.spec == DataSpec.labelled((8, 8, 1), 10, '0123456789')
  assert (x0.shape, x0.dtype) == ((1797, 8, 8, 1), np.float32)
  assert (label.shape, label.dtype) == ((1797,), np.int32)
  assert (x0.min(), x0.max()) == (-1, 1)
  np.testing.assert_array_equal(x0[..., 0] * 8 + 8, load_digits().images)
  np.testing.assert_array_equal(label, load_digits().target)


@pytest.mark.parametrize('name', TOYS)
def test_toys_are_points_of_unit_variance(name):
  source = DATASETS[name]()
  x0 = source.arrays['x0']
  assert (source.spec, len(source)) == (DataSpec((2,)), 10_000)
  assert set(source.arrays) == {'x0'}
  assert x0.dtype == np.float32
  assert np.abs(x0.mean(axis=0)).max() < 0.03
  assert x0.var(axis=0).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize('name', TOYS)
def test_toys_are_the_same_every_time_and_as_many_as_asked(name):
  np.testing.assert_array_equal(points(name, size=50), points(name, size=50))
  assert len(points(name, size=50)) == 50


@pytest.mark.parametrize('name', ['moons', 'gaussians'])
def test_the_scale_does_not_depend_on_the_sample(name):
  """Without noise the points lie on the curve itself, however few they are."""
  few, many = points(name, size=20, noise=0.0), points(name, noise=0.0)
  apart = np.linalg.norm(few[:, None] - many[None], axis=-1).min(axis=1)
  assert apart.max() < 0.01


def test_moons_are_two_half_circles():
  x = points('moons', noise=0.0)
  x = x * np.sqrt((3 / 4 + 9 / 16 - 1 / np.pi) / 2)  # back to radius 1
  upper = np.abs(np.hypot(x[:, 0] + 0.5, x[:, 1] + 0.25) - 1) < 1e-6
  lower = np.abs(np.hypot(x[:, 0] - 0.5, x[:, 1] - 0.25) - 1) < 1e-6
  assert (upper | lower).all()
  assert upper.mean() == pytest.approx(0.5, abs=0.02)
  assert (x[upper, 1] > -0.25 - 1e-6).all()
  assert (x[lower, 1] < 0.25 + 1e-6).all()


def test_gaussians_are_eight_on_a_circle():
  x = points('gaussians', noise=0.01)
  angle = np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4)
  assert np.abs(angle - np.round(angle)).max() < 0.1
  counts = np.bincount(np.round(angle).astype(int) % 8, minlength=8)
  assert counts / len(x) == pytest.approx(np.full(8, 1 / 8), abs=0.015)


def test_checkerboard_fills_every_other_square():
  x = points('checkerboard') * np.sqrt(4 / 3)  # back to squares of side 1
  assert np.abs(x).max() <= 2
  column, row = np.floor(x).astype(int).T + 2
  assert ((column + row) % 2 == 0).all()
  counts = np.bincount(column * 4 + row, minlength=16)
  assert counts[counts > 0] / len(x) == pytest.approx(
    np.full(8, 1 / 8), abs=0.015
  )


@pytest.mark.parametrize('name', BUILT_IN)
def test_the_splits_share_out_the_data(name):
  whole, train, held_out = (
    source[np.arange(len(source))]['x0']
    for source in (
      DATASETS[name](split=s) for s in ('all', 'train', 'validation')
    )
  )
  assert len(train) + len(held_out) == len(whole)
  np.testing.assert_array_equal(
    sort_rows(np.concatenate([train, held_out])), sort_rows(whole)
  )
  std = np.sqrt(0.09 / len(whole))  # of a share of 0.1
  assert len(held_out) / len(whole) == pytest.approx(0.1, abs=3 * std)


def sort_rows(x):
  x = x.reshape(len(x), -1)
  return x[np.lexsort(x.T)]


@pytest.mark.parametrize('name', DATASETS)
def test_every_option_has_a_default(name):
  parameters = inspect.signature(DATASETS[name]).parameters.values()
  assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
  assert all(p.default is not p.empty for p in parameters)


@pytest.mark.parametrize('name', BUILT_IN)
def test_an_unknown_split_is_refused(name):
  with pytest.raises(ValueError, match="split = 'test'.*'validation'"):
    DATASETS[name](split='test')


@pytest.mark.parametrize('name', TOYS)
def test_no_points_are_refused(name):
  with pytest.raises(ValueError, match='size = 0.*at least 1'):
    DATASETS[name](size=0)


@pytest.mark.parametrize('name', ['moons', 'gaussians'])
def test_negative_noise_is_refused(name):
  with pytest.raises(ValueError, match=r'noise = -0\.1.*at least 0'):
    DATASETS[name](noise=-0.1)
