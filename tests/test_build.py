"""Names become objects, and averages that stand still do so to the byte."""

import jax.numpy as jnp
import numpy as np

from flowdistill.build import conditions, update_ema


def test_an_average_stands_still_from_until_on():
  average, p = {'w': jnp.array([0.3])}, {'w': jnp.array([0.7])}
  options = {'half_life': 3, 'ramp': None, 'until': 5}
  before = update_ema(jnp.int32(4), average, p, **options)
  np.testing.assert_allclose(before['w'], 0.7 - 0.4 * 0.5 ** (1 / 3), rtol=1e-6)
  after = update_ema(jnp.int32(5), average, p, **options)
  np.testing.assert_array_equal(after['w'], average['w'])


def test_null_is_the_class_after_the_last():
  batch = {'x0': np.zeros((3, 2)), 'label': np.array([0, 4, 2], np.int32)}
  made = conditions(batch, 5)
  np.testing.assert_array_equal(made['null']['label'], [5, 5, 5])
  assert made['null']['label'].dtype == np.int32
  np.testing.assert_array_equal(made['cond']['label'], batch['label'])


def test_without_classes_there_is_nothing_to_condition_on():
  made = conditions({'x0': np.zeros((3, 2))}, 0)
  assert made['cond'] == made['null'] == {}
