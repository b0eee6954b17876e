"""Stochastic rounding: to a neighbour, right in expectation, by its key."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.training.rounding import (
  cast,
  check_dtype,
  round_stochastically,
)

FINITE = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


def draws(x, n=4096):
  wide = jnp.full(n, x, jnp.float32)
  return np.asarray(round_stochastically(wide, jax.random.key(0)), np.float64)


def neighbours(x):
  """The two numbers of bfloat16 that x lies between."""
  bits = int(np.float32(x).view(np.uint32)) & 0xFFFF0000
  ends = [np.uint32(b).view(np.float32) for b in (bits, bits + 0x10000)]
  return sorted(map(float, ends))


@given(FINITE)
def test_it_is_a_neighbour_and_right_in_the_mean(x):
  below, above = neighbours(x)
  found = draws(x)
  assert set(found) <= {below, above}
  share = (float(np.float32(x)) - below) / (above - below)
  off = abs(np.mean(found == above) - share)
  assert off <= 5 * np.sqrt(share * (1 - share) / len(found)) + 1e-9


@given(FINITE)
def test_what_needs_no_rounding_stays(x):
  exact = float(jnp.asarray(x, jnp.bfloat16))
  assert set(draws(exact, 64)) == {exact}


def test_it_is_a_function_of_its_key():
  x = jax.random.normal(jax.random.key(1), (1000,))
  first, again, other = (
    round_stochastically(x, jax.random.key(k)) for k in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.any(np.asarray(first) != np.asarray(other))
  assert first.dtype == jnp.bfloat16


def test_only_floating_point_arrays_are_cast():
  tree = {'w': jnp.ones(3), 'n': jnp.arange(3)}
  half = cast(tree, 'bfloat16')
  assert half['w'].dtype == jnp.bfloat16
  assert half['n'].dtype == tree['n'].dtype
  assert cast(half, 'float32')['w'].dtype == jnp.float32


def test_a_dtype_that_is_not_kept_is_named():
  message = "dtype = 'float16' must be one of 'float32', 'bfloat16'"
  with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
    check_dtype('float16')
