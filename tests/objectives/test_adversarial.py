"""Adversarial finetuning with the optimal discriminator of two Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.objectives import adversarial
from flowdistill.objectives.roles import Roles, View

pytestmark = pytest.mark.usefixtures('x64')
KEY, N = jax.random.key(0), 4000
MEAN, STD = 1.5, 0.5
X0 = MEAN + STD * np.random.default_rng(7).normal(size=(N, 1))
BATCH = {'x0': X0, 'cond': {}, 'null': {}}


def student(shift):
  """One step makes N(shift, STD²) of noise; `unused` is another layer."""

  def call(params, z, t, s, cond):
    x0 = params['shift'] + STD * z + 0 * params['last']
    return (z - x0) / jnp.reshape(t, (-1, 1))

  return View(call, {'last': jnp.zeros(()), 'shift': jnp.asarray(shift)})


def optimal(shift):
  """log p(x) − log q(x), of data and N(shift, STD²)."""

  def critic(x, cond):
    gap = jnp.square(x - shift) - jnp.square(x - MEAN)
    return gap[:, 0] / (2 * STD**2)

  return critic


def still(nets, batch, key, step):
  """A base: (3 + 4 last)² / 2 + shift²; its gradient is (12, 2 shift)."""
  p = nets.student.params
  loss = (3 + 4 * p['last']) ** 2 / 2 + p['shift'] ** 2
  return jnp.broadcast_to(loss, (N,)), {'own': loss}


def run(shift, step=0, started=True, **options):
  """(loss [b], metrics), and the gradient of the mean."""
  net = student(shift)
  critic = View(lambda p, *x: optimal(shift)(*x), {}, 'logits', started)

  def mean(params):
    nets = Roles(student=net.at(params), discriminator=critic)
    loss, metrics = adversarial(nets, BATCH, KEY, step, **options)
    return loss.mean(), (loss, metrics)

  return jax.grad(mean, has_aux=True)(net.params)[::-1]


ALONE = {'base': still, 'alpha': 0.0}


@pytest.mark.parametrize('shift', [-1.0, 0.5, 1.2, 1.8, 3.0])
def test_the_gradient_points_at_the_data(shift):
  _, gradient = run(shift, **ALONE)
  assert np.sign(gradient['shift']) == np.sign(shift - MEAN)
  assert abs(gradient['shift']) > 0.1


def test_the_gradient_vanishes_at_the_data():
  (loss, _), gradient = run(MEAN, **ALONE)
  np.testing.assert_allclose(loss, np.log(2))
  assert abs(float(gradient['shift'])) < 1e-12


def test_the_loss_of_fixed_logits():
  net = student(0.0)
  critic = View(lambda p, x, c: jnp.where(x[:, 0] == X0[:, 0], 2.0, 0.5), {})
  nets = Roles(student=net, discriminator=critic)
  loss, metrics = adversarial(nets, BATCH, KEY, 0, **ALONE)
  np.testing.assert_allclose(loss, np.log1p(np.exp(1.5)))
  assert float(metrics['adversarial']) == pytest.approx(np.log1p(np.exp(1.5)))


@pytest.mark.parametrize(
  ('adaptive', 'layers'),
  [(None, '*'), ('base', '*'), ('base', 'shift'), ('adversarial', 's*')],
)
def test_the_gradient_is_the_weighted_sum_of_both(adaptive, layers):
  """In each reading of w, over all parameters or over one layer."""
  fooled = float(run(0.5, **ALONE)[1]['shift'])
  base = {'last': 12.0, 'shift': 1.0}
  kept = 1.0 if layers != '*' else np.hypot(12.0, 1.0)
  a, b = {
    None: (1.0, 0.2),
    'base': (1.0, 0.2 * abs(fooled) / kept),
    'adversarial': (0.2 * kept / abs(fooled), 1.0),
  }[adaptive]
  options = {'adaptive': adaptive, 'layers': layers, 'alpha': 0.2}
  (loss, metrics), gradient = run(0.5, base=still, **options)
  assert float(gradient['last']) == pytest.approx(b * base['last'])
  expected = a * fooled + b * base['shift']
  assert float(gradient['shift']) == pytest.approx(expected)
  w = a if adaptive == 'adversarial' else b
  assert float(metrics['adaptive_weight']) == pytest.approx(w)
  terms = a * metrics['adversarial'] + b * metrics['base']
  assert float(loss.mean()) == pytest.approx(float(terms))
  assert 'own' in metrics


def test_a_weight_is_bounded():
  """At the data L_adv has no gradient."""
  options = {'adaptive': 'adversarial', 'alpha': 1.0, 'max_weight': 7.0}
  (_, metrics), gradient = run(MEAN, base=still, **options)
  assert float(metrics['adaptive_weight']) == pytest.approx(7.0)
  assert all(np.isfinite(x) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize('started', [False, True])
def test_before_the_discriminator_starts_there_is_the_base_alone(started):
  (loss, metrics), gradient = run(0.5, base=still, started=jnp.array(started))
  (always, _), whole = run(0.5, base=still)
  if started:
    np.testing.assert_allclose(loss, always)
    assert float(gradient['shift']) == pytest.approx(float(whole['shift']))
    return
  np.testing.assert_allclose(loss, 4.5 + 0.25)
  assert float(gradient['last']) == pytest.approx(12.0)
  assert float(gradient['shift']) == pytest.approx(1.0)
  assert float(metrics['adversarial']) == 0


def test_a_record_with_another_student_is_of_the_same_kind():
  class Watched(Roles):
    pass

  nets = Watched(student=1, teacher=2)
  nets.__dict__.update(seen=[])
  other = nets.having(student=3)
  assert type(other) is Watched
  assert (dict(other), dict(nets)['student']) == (
    {'student': 3, 'teacher': 2},
    1,
  )
  assert other.seen is nets.seen


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'alpha': -0.1}, 'alpha = -0.1 must be at least 0'),
    ({'adaptive': 'emd'}, "adaptive = 'emd' must be one of"),
    ({'max_weight': 0.0}, 'max_weight = 0.0 must be above 0'),
    ({'layers': 'none'}, "layers = 'none' must match .* last, shift"),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    run(0.5, base=still, **options)
