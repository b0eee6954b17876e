"""The feature network of `frechet_digits`, with the weights that ship."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import moments
from flowdistill.networks.digit_classifier import WEIGHTS, load_digit_classifier

DIGITS = load_digits()
X0 = (DIGITS.images / 8 - 1).astype(np.float32)[..., None]


@pytest.fixture(scope='module')
def outputs():
  """(features [1797, 64], logits [1797, 10]) of the real digits."""
  features, logits = load_digit_classifier()(X0)
  return np.asarray(features), np.asarray(logits)


def test_shapes_and_types(outputs):
  features, logits = outputs
  assert (features.shape, features.dtype) == ((1797, 64), np.float32)
  assert (logits.shape, logits.dtype) == ((1797, 10), np.float32)


def test_it_reads_digits_that_it_was_not_trained_on(outputs):
  """Every fifth was held out (train_digit_classifier.py)."""
  right = outputs[1].argmax(axis=-1) == DIGITS.target
  assert right[::5].mean() >= 0.98
  assert right.mean() >= 0.99


def test_the_unit_is_a_third_of_the_distance_of_two_halves(outputs):
  rng, distances = np.random.default_rng(1), []
  for _ in range(40):
    halves = np.array_split(rng.permutation(outputs[0]), 2)
    distances.append(frechet_distance(*map(moments, halves)))
  assert np.mean(distances) == pytest.approx(3, abs=0.05)


def test_it_tells_noise_and_a_lost_class_from_digits(outputs):
  """What a broken model would make is far, in the unit of two halves."""
  real = moments(outputs[0])
  noise = np.random.default_rng(0).uniform(-1, 1, X0.shape).astype(np.float32)
  features, _ = load_digit_classifier()(noise)
  assert frechet_distance(moments(np.asarray(features)), real) > 100
  lost = moments(outputs[0][DIGITS.target != 3])
  assert frechet_distance(lost, real) > 5


def test_an_image_does_not_depend_on_its_neighbours(outputs):
  features, logits = load_digit_classifier()(X0[40:43])
  np.testing.assert_allclose(features, outputs[0][40:43], atol=1e-4)
  np.testing.assert_allclose(logits, outputs[1][40:43], atol=1e-4)


@pytest.mark.parametrize('shape', [(2, 8, 8), (2, 64), (2, 28, 28, 1)])
def test_another_shape_is_refused(shape):
  with pytest.raises(ValueError, match=r'takes \[b, 8, 8, 1\], got'):
    load_digit_classifier()(np.zeros(shape, np.float32))


def test_the_weights_are_small_and_hold_plain_numbers():
  """NumPy would have to unpickle anything else, which runs code."""
  assert WEIGHTS.stat().st_size < 60_000
  with np.load(WEIGHTS, allow_pickle=False) as arrays:
    assert {arrays[name].dtype for name in arrays} == {np.dtype('float16')}
    assert all(np.isfinite(arrays[name]).all() for name in arrays)
