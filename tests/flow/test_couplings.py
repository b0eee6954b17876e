import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowdistill.flow.couplings import independent, paired

X0 = jax.random.normal(jax.random.key(9), (5000, 2, 2))


def test_independent_noise_is_standard_normal_and_knows_no_data():
  x0, x1 = independent(jax.random.key(0), {'x0': X0})
  np.testing.assert_array_equal(x0, X0)
  assert x1.shape == X0.shape
  assert stats.kstest(np.ravel(x1), 'norm').pvalue > 0.01
  correlation = np.corrcoef(np.ravel(x0), np.ravel(x1))[0, 1]
  assert abs(correlation) < 4 / X0.size**0.5


def test_independent_noise_is_fresh_for_each_key():
  first, second = (
    independent(jax.random.key(k), {'x0': X0})[1] for k in (0, 1)
  )
  assert not np.any(np.asarray(first == second))


def test_noise_has_the_dtype_of_the_data():
  batch = {'x0': X0.astype(jnp.bfloat16)}
  assert independent(jax.random.key(0), batch)[1].dtype == jnp.bfloat16


def test_paired_returns_the_pairs_of_the_batch():
  x0, x1 = paired(jax.random.key(0), {'x0': X0, 'x1': 2 * X0})
  np.testing.assert_array_equal(x0, X0)
  np.testing.assert_array_equal(x1, 2 * X0)


def test_paired_without_pairs_says_what_to_do():
  with pytest.raises(ValueError, match=r"'x1'.*'x0'.*'independent'"):
    paired(jax.random.key(0), {'x0': X0})
