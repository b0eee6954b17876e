"""Conditions are read by index, and pictures never."""

import numpy as np
import pytest

from flowdistill.build.conditions_only import ConditionsOnly
from flowdistill.datasets.pipeline import make_batches, permutation
from flowdistill.flow.spec import DataSpec


class Opened(Exception):
  """A picture was opened."""


class Told:
  """Five labels; a picture raises."""

  spec = DataSpec.labelled((64, 64, 3), 5)

  def __len__(self):
    return 5

  def __getitem__(self, index):
    raise Opened

  def draw(self, index, epoch, seed):
    raise Opened

  def conditions(self, index):
    return {'label': np.arange(5, dtype=np.int32)[index]}


SEEN = DataSpec.labelled((8, 8, 4), 5)  # latents of 64 x 64


def test_a_batch_has_the_conditions_in_the_usual_order():
  source = ConditionsOnly(Told(), SEEN)
  first = next(make_batches(source, batch_size=5, seed=3))
  assert set(first) == {'x0', 'label'}
  np.testing.assert_array_equal(first['label'], permutation(5, 3, 0))
  assert first['x0'].dtype == np.float32
  np.testing.assert_array_equal(first['x0'], np.zeros((5, 8, 8, 4)))
  with pytest.raises(Opened):
    next(make_batches(Told(), batch_size=5, seed=3))


def test_one_example():
  source = ConditionsOnly(Told(), SEEN)
  assert source[2]['x0'].shape == (8, 8, 4)
  assert source[2]['label'] == 2
