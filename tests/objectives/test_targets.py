"""Which examples have a condition, and what is regressed on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.objectives.roles import Roles
from flowdistill.objectives.targets import (
  conditional,
  frozen,
  guided_rows,
  velocity,
)


def test_a_condition_was_dropped_if_it_is_null_in_every_leaf():
  null = {'label': jnp.full(4, 10), 'text': jnp.zeros((4, 3, 2))}
  label = jnp.array([10, 3, 10, 3])
  text = jnp.zeros((4, 3, 2)).at[2:, 1, 1].set(1.0)
  batch = {'cond': {'label': label, 'text': text}, 'null': null}
  np.testing.assert_array_equal(conditional(batch), [False, True, True, True])


def test_no_condition_at_all_is_an_error():
  with pytest.raises(ValueError, match='guidance needs a condition'):
    conditional({'cond': {}, 'null': {}})


def test_the_interval_of_guidance_has_both_its_ends():
  label = jnp.array([1, 1, 1, 1, 0])
  batch = {'cond': {'label': label}, 'null': {'label': jnp.zeros(5, int)}}
  t = jnp.array([0.25, 0.5, 0.75, 0.8, 0.5])
  rows = guided_rows(t, batch, 0.25, 0.75)
  np.testing.assert_array_equal(rows, [True, True, True, False, False])
  assert not guided_rows(t, batch, 0.3, 0.75)[0]
  np.testing.assert_array_equal(
    guided_rows(t, batch, 0.75, 0.75), [False, False, True, False, False]
  )


@pytest.mark.parametrize(
  ('low', 'high', 'message'),
  [
    (-0.1, 1.0, r'guidance_low = -0.1 must lie in \[0, 1\]'),
    (1.1, 1.0, r'guidance_low = 1.1 must lie in \[0, 1\]'),
    (0.5, 0.4, r'guidance_high = 0.4 must lie in \[0.5, 1\]'),
    (0.5, 1.1, r'guidance_high = 1.1 must lie in \[0.5, 1\]'),
  ],
)
def test_an_interval_out_of_range_is_named(low, high, message):
  label = {'label': jnp.ones(2, int)}
  with pytest.raises(ValueError, match=message):
    guided_rows(jnp.ones(2), {'cond': label, 'null': label}, low, high)


def test_the_velocity_is_that_of_the_pair_or_of_the_teacher():
  nets = Roles(teacher=lambda x, t, cond: x + t + cond['by'])
  x_t, t, cond = jnp.full(1, 2.0), jnp.full(1, 0.5), {'by': 4.0}
  ends = jnp.full(1, 7.0), jnp.full(1, 10.0)
  assert velocity(nets, ends, x_t, t, cond, distil=True) == 6.5
  assert velocity(Roles(), ends, x_t, t, cond, distil=False) == 3


@pytest.mark.parametrize('target', ['ema', 'student'])
def test_a_frozen_network_is_asked_as_it_is_and_learns_nothing(target):
  def answer(a):
    nets = Roles(
      {
        'ema': lambda x, t, s, cond: 2 * a * x + t - s,
        'student': lambda x, t, s, cond: 3 * a * x + t - s,
      }
    )
    return frozen(nets, target)(5.0, 0.75, 0.25, {})

  factor = 2 if target == 'ema' else 3
  assert answer(1.0) == factor * 5 + 0.5
  assert jax.grad(answer)(1.0) == 0


def test_an_unknown_target_is_named():
  with pytest.raises(ValueError, match="target = 'weak' must be one of"):
    frozen(Roles(weak=abs), 'weak')
