"""What a batch becomes before an objective sees it."""

import numpy as np
from flowdistill.build.objects import conditions


def test_null_is_the_class_after_the_last():
  batch = {'x0': np.zeros((3, 2)), 'label': np.array([0, 4, 2], np.int32)}
  made = conditions(batch, 5)
  np.testing.assert_array_equal(made['null']['label'], [5, 5, 5])
  assert made['null']['label'].dtype == np.int32
  np.testing.assert_array_equal(made['cond']['label'], batch['label'])


def test_without_classes_there_is_nothing_to_condition_on():
  made = conditions({'x0': np.zeros((3, 2))}, 0)
  assert made['cond'] == made['null'] == {}


def test_paired_noise_comes_along():
  batch = {'x0': np.zeros((3, 2)), 'x1': np.ones((3, 2))}
  np.testing.assert_array_equal(conditions(batch, 0)['x1'], batch['x1'])
