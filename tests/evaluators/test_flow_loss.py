"""The validation loss, against flows that are known in closed form."""

import numpy as np
import pytest
from evaluators import fakes

from flowdistill.evaluators.flow_loss import flow_loss


class Still(fakes.InPixels):
  """A velocity that is 0 everywhere."""

  def ask(self, x_t, t, s, cond):
    return np.zeros_like(x_t)


class Exact(fakes.InPixels):
  """The velocity of standard normal data: v = x (2 t − 1) / (t² + (1 − t)²)."""

  def ask(self, x_t, t, s, cond):
    assert np.array_equal(t, s)
    t = t[:, None]
    return x_t * (2 * t - 1) / (t**2 + (1 - t) ** 2)


def loss(model, **options):
  (row,) = flow_loss({'student': model}, fakes.points(), None, None, **options)
  return row['flow_loss']


def test_of_no_velocity_it_is_the_energy_of_the_line():
  """E(x1 − x0)² = 2 in each dimension."""
  assert loss(Still(), samples=20_000) == pytest.approx(2, rel=0.05)


def test_of_the_exact_one_it_is_what_cannot_be_known():
  """∫ 1 / (t² + (1 − t)²) dt = π / 2, the variance that x_t leaves of v."""
  found = loss(Exact(), samples=20_000)
  assert found == pytest.approx(np.pi / 2, rel=0.05)


def test_it_is_the_same_each_time():
  assert loss(Exact()) == loss(Exact())


@pytest.mark.parametrize(
  ('options', 'message'),
  [({'role': 'teacher'}, "role = 'teacher'"), ({'samples': 1}, 'samples = 1')],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=message):
    loss(Still(), **options)
