"""The sum and the mean over an example, and what they do to a constant c."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.flow.couplings import paired
from flowdistill.flow.losses import REDUCTIONS, half_sum, mean, total
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Roles

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
SHAPE = (5, 2, 2, 1)
N = 4  # elements of an example


def wavy(x, t, s, cond):
  t, s = (jnp.reshape(a, (-1, 1, 1, 1)) for a in (t, s))
  return jnp.sin(3 * x) + t * x + s


def bent(x, t, cond):
  return jnp.cos(2 * x) - jnp.reshape(t, (-1, 1, 1, 1))


NETS = Roles(student=wavy, ema=wavy, teacher=bent, weak=bent)
X0, X1 = np.random.default_rng(0).normal(size=(2, *SHAPE))
# Options with the sum, those with the mean, and the sum over the mean.
CASES = {
  'rectified_flow': ({}, {}, N),
  'distillation': ({}, {}, N),
  'ayf_emd': ({}, {}, N),
  'ayf_lmd': ({}, {}, N),
  'scm': ({}, {}, N),
  'shortcut': ({'smallest': 4}, {'smallest': 4}, N),
  'tvm': ({}, {}, N),
  # Pseudo-Huber: c of the sum is √n times that of the mean.
  'ect': ({'c': 0.06}, {'c': 0.06 / N**0.5}, N**0.5),
  'rcgm': ({'c': 0.5 * N**0.5}, {'c': 0.5}, N**0.5),
  'twinflow': ({'c': 0.5 * N**0.5}, {'c': 0.5}, N**0.5),
  # Adaptive weights: c of the sum is n times that of the mean.
  'mean_flow': ({'p': 0.7, 'c': 0.4}, {'p': 0.7, 'c': 0.4 / N}, N**0.3),
  'improved_mean_flow': (
    {'p': 0.7, 'c': 0.4},
    {'p': 0.7, 'c': 0.4 / N},
    N**0.3,
  ),
  'facm': ({'q': 0.0, 'cosine': 0.5 * N}, {'q': 0.0, 'cosine': 0.5}, N),
}


def batch():
  return {'x0': jnp.asarray(X0), 'x1': jnp.asarray(X1), 'cond': {}, 'null': {}}


def run(name, reduction, **options):
  return OBJECTIVES[name](
    NETS, batch(), KEY, jnp.int32(7), reduction=reduction, **options
  )


def test_every_objective_is_among_them():
  without = {'adversarial', 'relativistic'}  # the base's, and none
  assert set(CASES) == set(OBJECTIVES) - without
  assert list(REDUCTIONS) == ['sum', 'mean', 'half_sum']


@pytest.mark.parametrize('name', CASES)
def test_a_sum_is_a_mean_times_a_power_of_the_number_of_elements(name):
  """The same gradient but for its length, where c is scaled as it says."""
  summed, averaged, factor = CASES[name]
  sums, _ = run(name, total, **summed)
  means, _ = run(name, mean, **averaged)
  assert sums.shape == (SHAPE[0],)
  assert np.all(np.asarray(sums) > 0)
  np.testing.assert_allclose(sums, factor * means, rtol=1e-9)


@pytest.mark.parametrize('name', ['rectified_flow', 'mean_flow', 'facm'])
def test_by_default_it_is_that_of_the_table(name):
  default = mean if name == 'facm' else total
  loss, _ = OBJECTIVES[name](NETS, batch(), KEY, jnp.int32(7))
  np.testing.assert_array_equal(loss, run(name, default)[0])


def test_the_jump_of_facm_has_an_adaptive_weight():
  q = 0.3
  _, sums = run('facm', total, q=q, c=0.4)
  _, means = run('facm', mean, q=q, c=0.4 / N)
  assert sums['jump'] == pytest.approx(N ** (1 - q) * means['jump'])


def test_reductions_by_hand():
  x = jnp.arange(12.0).reshape(2, 3, 2)
  np.testing.assert_allclose(total(x), [15, 51])
  np.testing.assert_allclose(mean(x), [2.5, 8.5])
  np.testing.assert_allclose(half_sum(x), [7.5, 25.5])


@pytest.mark.parametrize(
  ('distance', 'expected'),
  [
    (('l2',), lambda e: np.mean(e**2, (1, 2, 3))),
    (('l1',), lambda e: np.mean(np.abs(e), (1, 2, 3))),
    (('lpips',), lambda e: np.full(5, 7.0)),
    (('lpips', 'l1'), lambda e: 7 + np.mean(np.abs(e), (1, 2, 3))),
  ],
)
@pytest.mark.parametrize('resize', [64, None])
def test_a_rectified_flow_takes_the_distances_of_slimflow(
  distance, expected, resize
):
  """LPIPS compares where the velocity leads from the noise with the data."""
  seen, asked = [], []

  def perceptual(x, y, resize):
    seen.append((x, y, resize))
    return jnp.full(len(x), 7.0)

  def student(x, t, s, cond):
    asked.append(v := wavy(x, t, s, cond))
    return v

  loss, _ = OBJECTIVES['rectified_flow'](
    Roles(student=student, perceptual=perceptual),
    batch(),
    KEY,
    0,
    coupling=paired,
    distance=distance,
    reduction=mean,
    resize=resize,
  )
  error = asked[0] - (X1 - X0)
  np.testing.assert_allclose(loss, expected(np.asarray(error)), rtol=1e-9)
  assert len(seen) == ('lpips' in distance)
  for x, y, side in seen:
    np.testing.assert_allclose(x, X1 - asked[0])
    np.testing.assert_allclose(y, X0)
    assert side == resize


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'distance': ()}, r'distance = \(\) must name one or more'),
    ({'distance': ('l3',)}, 'must name one or more of l2, l1, lpips, each'),
    ({'distance': ('l2', 'l2')}, r"\('l2', 'l2'\) must name .*, each once"),
    ({'resize': 0}, 'resize = 0 must be at least 1, or None'),
  ],
)
@pytest.mark.parametrize('name', ['rectified_flow', 'distillation'])
def test_distances_out_of_range(name, options, message):
  with pytest.raises(ValueError, match=message):
    run(name, mean, **options)


def test_lpips_asks_a_rectified_flow_for_its_weights():
  with pytest.raises(AttributeError, match=r"'frozen\.perceptual' to a file"):
    run('rectified_flow', mean, distance=('lpips',))
