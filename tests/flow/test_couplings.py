import jax
import jax.numpy as jnp
import numpy as np
import pytest
from defaults import defaults
from scipy import stats

from flowdistill.flow.couplings import (
  ANNEALINGS,
  COUPLINGS,
  annealed,
  constant,
  cosine,
  exponential,
  independent,
  linear,
  paired,
)

X0 = jax.random.normal(jax.random.key(9), (5000, 2, 2))


def test_independent_noise_is_standard_normal_and_knows_no_data():
  x0, x1 = independent(jax.random.key(0), {'x0': X0}, 0)
  np.testing.assert_array_equal(x0, X0)
  assert x1.shape == X0.shape
  assert stats.kstest(np.ravel(x1), 'norm').pvalue > 0.01
  correlation = np.corrcoef(np.ravel(x0), np.ravel(x1))[0, 1]
  assert abs(correlation) < 4 / X0.size**0.5


def test_independent_noise_is_fresh_for_each_key():
  first, second = (
    independent(jax.random.key(k), {'x0': X0}, 0)[1] for k in (0, 1)
  )
  assert not np.any(np.asarray(first == second))


@pytest.mark.parametrize('coupling', [independent, annealed])
def test_noise_has_the_dtype_of_the_data(coupling):
  batch = {name: X0.astype(jnp.bfloat16) for name in ('x0', 'x1')}
  noise = coupling(jax.random.key(0), batch, jnp.int32(9))[1]
  assert noise.dtype == jnp.bfloat16


def test_paired_returns_the_pairs_of_the_batch():
  x0, x1 = paired(jax.random.key(0), {'x0': X0, 'x1': 2 * X0}, 0)
  np.testing.assert_array_equal(x0, X0)
  np.testing.assert_array_equal(x1, 2 * X0)


@pytest.mark.parametrize('coupling', [paired, annealed])
def test_without_pairs_it_says_what_to_do(coupling):
  with pytest.raises(ValueError, match=r"coupling.*x1.*'x0'.*'independent'"):
    coupling(jax.random.key(0), {'x0': X0}, 0)


PAIRS = {'x0': X0, 'x1': jax.random.normal(jax.random.key(8), X0.shape)}


@pytest.mark.parametrize(
  ('beta', 'half', 'end'),
  [(linear, 0.5, 0.0), (cosine, 0.5, 0.0), (exponential, 0.6065, 0.3679)],
)
def test_annealing_falls_from_one(beta, half, end):
  steps = (0, 50, 100)
  found = [float(beta(k, warmup_steps=100)) for k in steps]
  assert found == pytest.approx([1.0, half, end], abs=1e-4)
  after = float(beta(300, warmup_steps=100))
  assert after == pytest.approx(end**3, abs=1e-4)
  assert float(beta(25, warmup_steps=100)) == pytest.approx(
    {linear: 0.75, cosine: 0.8536, exponential: 0.7788}[beta], abs=1e-4
  )
  assert float(beta(1, warmup_steps=1)) == pytest.approx(end, abs=1e-4)
  with pytest.raises(ValueError, match='warmup_steps = 0 must'):
    beta(0, warmup_steps=0)


def test_annealing_may_stay_where_it_is():
  assert [float(constant(k, share=0.25)) for k in (0, 9, 10**6)] == [0.25] * 3
  for share in (-0.1, 1.1, float('nan')):
    with pytest.raises(ValueError, match=f'share = {share} must lie in'):
      constant(0, share=share)


def test_annealing_starts_independent_and_ends_paired():
  first, last = (
    annealed(jax.random.key(0), PAIRS, 0, beta=lambda step, b=b: b)[1]
    for b in (1.0, 0.0)
  )
  np.testing.assert_array_equal(last, PAIRS['x1'])
  correlation = np.corrcoef(np.ravel(first), np.ravel(PAIRS['x1']))[0, 1]
  assert abs(correlation) < 4 / X0.size**0.5


@pytest.mark.parametrize('share', [0.3, 0.8])
def test_annealed_noise_stays_standard_normal(share):
  x0, x1 = annealed(jax.random.key(0), PAIRS, 7, beta=lambda step: share)
  np.testing.assert_array_equal(x0, X0)
  assert stats.kstest(np.ravel(x1), 'norm').pvalue > 0.01
  covariance = np.mean(np.asarray(x1) * np.asarray(PAIRS['x1']))
  assert covariance == pytest.approx((1 - share**2) ** 0.5, abs=0.03)


def test_annealing_asks_for_the_step():
  asked = []
  annealed(
    jax.random.key(0), PAIRS, 7, beta=lambda step: asked.append(step) or 0.5
  )
  assert asked == [7]


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(COUPLINGS | ANNEALINGS) == {
    'independent': {},
    'paired': {},
    'annealed': {'beta': cosine},
    'linear': {'warmup_steps': 300_000},
    'exponential': {'warmup_steps': 300_000},
    'cosine': {'warmup_steps': 300_000},
    'constant': {'share': 0.0},
  }
