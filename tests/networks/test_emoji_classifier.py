"""The feature network of `frechet_emoji`, with the weights that ship."""

import pathlib

import jax
import numpy as np
import pytest

from flowdistill.datasets.emoji import FONT, NAMES, emoji
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import moments
from flowdistill.networks import FEATURES
from flowdistill.networks.emoji_classifier import (
  GROUPS,
  WEIGHTS,
  in_colour,
)
from flowdistill.networks.features import emoji as features

REAL = pytest.mark.skipif(
  not (pathlib.Path(FONT).is_file() and pathlib.Path(NAMES).is_file()),
  reason='fonts-noto-color-emoji and unicode-data are not installed',
)


def disc(size=32):
  """A yellow disc on white, [1, size, size, 3]."""
  y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
  inside = (np.hypot(x, y) < 0.8)[..., None]
  return np.where(inside, [1, 0.6, -1], 1).astype(np.float32)[None]


def test_a_yellow_disc_has_these_features():
  """By value: a distance of last year is that of today."""
  found, logits = features().network(disc())
  assert (found.shape, found.dtype) == ((1, 64), np.float32)
  assert (logits.shape, logits.dtype) == ((1, 10), np.float32)
  np.testing.assert_allclose(found[0, 60:], LAST, atol=2e-3)


LAST = [0.5935, -0.0000, 7.2354, -0.0030]


def test_it_is_in_the_table_and_carries_its_name():
  assert FEATURES['emoji']().name == 'emoji'


def test_of_larger_pixels_they_are_the_same():
  small = features().network(disc())[0]
  larger = disc().repeat(2, axis=1).repeat(2, axis=2)
  np.testing.assert_allclose(features().network(larger)[0], small, atol=1e-3)


def test_grey_transparent_and_small_pictures_become_colour():
  x = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 1)).astype(np.float32)
  found = in_colour(x)
  assert found.shape == (2, 32, 32, 3)
  np.testing.assert_array_equal(found[:, ::4, ::4], x.repeat(3, axis=-1))
  alpha = np.concatenate([disc(), -np.ones((1, 32, 32, 1))], axis=-1)
  np.testing.assert_array_equal(in_colour(alpha), 1)  # white behind nothing
  alpha[..., 3] = 1
  np.testing.assert_array_equal(in_colour(alpha), disc())


@pytest.mark.parametrize('shape', [(48, 48, 3), (33, 33, 3), (32, 32, 2)])
def test_pictures_that_do_not_fit_are_refused(shape):
  x = jax.ShapeDtypeStruct((1, *shape), np.float32)
  with pytest.raises(ValueError, match='32 x 32|takes'):
    jax.eval_shape(features().network, x)


def test_the_weights_are_small_and_hold_plain_numbers():
  """NumPy would have to unpickle anything else, which runs code."""
  assert WEIGHTS.stat().st_size < 1_000_000
  with np.load(WEIGHTS, allow_pickle=False) as arrays:
    assert {arrays[name].dtype for name in arrays} == {np.dtype('float16')}
    assert all(np.isfinite(arrays[name]).all() for name in arrays)


def outputs(x0):
  parts = [features().network(x0[i : i + 512]) for i in range(0, len(x0), 512)]
  return map(np.concatenate, zip(*parts, strict=True))


@pytest.fixture(scope='module')
def real():
  """(x0, label, held out, features, logits) of all emoji."""
  source = emoji()
  index = np.arange(len(source))
  held_out = np.isin(source.captions, emoji(split='validation').captions)
  x0 = source[index]['x0']
  return x0, source.conditions(index)['label'], held_out, *outputs(x0)


@REAL
@pytest.mark.slow
def test_it_knows_groups_of_figures_that_it_was_not_trained_on(real):
  _, label, held_out, _, logits = real
  right = logits.argmax(axis=-1) == label
  assert right[held_out].mean() >= 0.75
  assert right.mean() >= 0.97


@REAL
@pytest.mark.slow
def test_the_unit_is_a_third_of_the_distance_of_two_halves(real):
  rng, distances = np.random.default_rng(1), []
  for _ in range(40):
    halves = np.array_split(rng.permutation(real[3]), 2)
    distances.append(frechet_distance(*map(moments, halves)))
  assert np.mean(distances) == pytest.approx(3, abs=0.35)  # ± 0.55


@REAL
@pytest.mark.slow
def test_it_tells_noise_blur_and_a_lost_group_from_emoji(real):
  x0, label, _, found, _ = real
  whole = moments(found)
  noise = np.random.default_rng(0).uniform(-1, 1, x0[:500].shape)
  blurred = x0.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4))
  for other, least in ((noise.astype(np.float32), 300), (blurred, 40)):
    features_of_other, _ = outputs(other)
    assert frechet_distance(moments(features_of_other), whole) > least
  lost = moments(found[label != GROUPS.index('Flags')])
  assert frechet_distance(lost, whole) > 30
