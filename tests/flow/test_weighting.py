"""Each weight at times where it is easily worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from defaults import defaults

from flowdistill.flow.weighting import (
  WEIGHTS,
  inverse_snr,
  karras,
  snr,
  tangent,
)

T = jnp.array([0.25, 0.5, 1.0])
EXPECTED = {
  'uniform': [1, 1, 1],
  'snr': [9, 1, 0],
  'inverse_snr': [1 / 9, 1, np.inf],
  'snr_plus_one': [10, 2, 1],
  'karras': [13, 5, 4],
  'truncated_snr': [9, 1, 1],
  'square': [1 / 16, 1 / 4, 1],
}


@pytest.mark.parametrize('name', EXPECTED)
def test_by_hand(name):
  by_ratio = 'snr' in name or name == 'karras'
  options = {'offset': 0.0} if by_ratio else {}
  weight = WEIGHTS[name](T, jnp.zeros(3), **options)
  np.testing.assert_allclose(weight, EXPECTED[name], rtol=1e-6)


@pytest.mark.parametrize('name', WEIGHTS)
def test_by_default_it_is_finite(name):
  t = jnp.array([0.0, 1.0, 1.0])
  weight = np.asarray(WEIGHTS[name](t, jnp.array([0.0, 0.0, 1.0])))
  assert np.all(np.isfinite(weight)) and np.all(weight >= 0)


def test_options():
  zero = jnp.zeros(1)
  assert snr(zero, zero).item() == pytest.approx(1e6)
  assert snr(zero + 0.5, zero, offset=0.5).item() == pytest.approx(0.25)
  assert karras(zero + 1, zero, std=0.25).item() == pytest.approx(16)
  for weight, options, message in (
    (snr, {'offset': -1}, 'offset = -1 must'),
    (inverse_snr, {'offset': -1}, 'offset = -1 must'),
    (snr, {'offset': float('nan')}, 'offset = nan must'),
    (karras, {'std': 0}, 'std = 0 must'),
    (tangent, {'period': 2}, 'period = 2 must'),
  ):
    with pytest.raises(ValueError, match=message):
      weight(zero, zero, **options)


def test_the_inverse_is_that_of_the_ratio():
  """Also with its offset, at all times that SlimFlow draws."""
  t = jnp.linspace(0, 0.999, 50)
  for offset in (1e-3, 0.0):
    product = snr(t[1:], t[1:], offset=offset) * inverse_snr(
      t[1:], t[1:], offset=offset
    )
    np.testing.assert_allclose(product, 1, rtol=2e-4)
  ends = jnp.array([0.0, 0.9995, 1.0])
  found = inverse_snr(ends, ends)
  np.testing.assert_allclose(found, [1e-6, 1000.5**2, 1001**2], rtol=1e-5)


def test_tangent_grows_as_the_jump_shrinks():
  """tan(π / 4) = 1 for a jump of 0.375; the sign of a time does not count."""
  t, s = jnp.array([1.0, 0.875, -0.875]), jnp.array([0.0, 0.5, -0.5])
  np.testing.assert_allclose(tangent(t, s), [1, 2, 2], rtol=1e-5)
  np.testing.assert_allclose(
    tangent(t[1:2], s[1:2], period=2.6),
    1 + np.tan(0.625 * np.pi / 2.6),
    rtol=1e-5,
  )


def test_what_a_config_may_name_and_its_defaults():
  offset = {'offset': 1e-3}
  assert defaults(WEIGHTS) == {
    'uniform': {},
    'snr': offset,
    'inverse_snr': offset,
    'snr_plus_one': offset,
    'karras': {**offset, 'std': 0.5},
    'truncated_snr': {**offset, 'floor': 1},
    'square': {},
    'tangent': {'period': 2.5},
  }
