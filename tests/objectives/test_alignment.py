"""A cosine between features, and its place in the loss of a flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.objectives.alignment import features_of, similarity, unit
from flowdistill.objectives.rectified_flow import rectified_flow
from flowdistill.objectives.roles import MissingRole, Roles, View

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
H = RNG.normal(size=(4, 3, 3, 5)).astype(np.float32)
Y = RNG.normal(size=(4, 3, 3, 5)).astype(np.float32)
BATCH = {'x0': RNG.normal(size=(4, 3, 3, 5)).astype(np.float32), 'cond': {}}


def test_it_is_the_mean_cosine_over_the_places():
  cosines = (H * Y).sum(-1)
  cosines /= np.linalg.norm(H, axis=-1) * np.linalg.norm(Y, axis=-1)
  expected = cosines.mean((1, 2))
  np.testing.assert_allclose(similarity(H, Y), expected, atol=1e-6)
  np.testing.assert_allclose(similarity(3 * H, Y), expected, atol=1e-6)
  np.testing.assert_allclose(similarity(H, 2 * H), 1, atol=1e-6)
  np.testing.assert_allclose(similarity(H, -H), -1, atol=1e-6)


def test_features_of_zero_are_finite():
  def f(h):
    return jnp.sum(similarity(h, Y))

  assert f(jnp.zeros_like(H)) == 0
  assert np.isfinite(jax.grad(f)(jnp.zeros_like(H))).all()


def test_the_best_features_are_the_mean_direction():
  """Of one h for many y: the gradient vanishes at the mean of y / ‖y‖ alone."""
  y = jax.random.normal(KEY, (500, 1, 1, 5)) + jnp.arange(5.0)

  def f(h):
    return jnp.mean(similarity(jnp.broadcast_to(h, y.shape), y))

  best = unit(y).mean(0)
  assert jnp.abs(jax.grad(f)(best)).max() < 1e-5
  assert jnp.abs(jax.grad(f)(best.at[..., 0].add(0.1))).max() > 1e-2
  assert f(best) > f(y.mean(0))


def student_of(params, x, t, s, cond):
  return params * x


def features_of_student(params, x, t, s, cond):
  return params * x, jnp.sin(params + x)


def loss(alignment, params=0.7, **roles):
  student = View(student_of, params, features=features_of_student)
  nets = Roles(student=student, features=jnp.cos, **roles)
  return rectified_flow(nets, BATCH, KEY, 0, alignment=alignment)


def test_the_loss_has_one_minus_the_cosine_in_addition():
  plain, none = loss(0.0)
  found, metrics = loss(3.0)
  assert none == {}
  cosine = 1 - (found - plain) / 3
  np.testing.assert_allclose(jnp.mean(cosine), metrics['similarity'], atol=1e-4)
  twice, _ = loss(6.0)
  np.testing.assert_allclose(twice - found, found - plain, atol=1e-3)
  assert (jnp.abs(cosine) <= 1 + 1e-4).all()


def test_hidden_features_see_the_noisy_example_and_the_target_the_clean_one():
  seen = {}

  def features(x0):
    seen['clean'] = x0
    return jnp.cos(x0)

  def aligned(params, x, t, s, cond):
    seen['noisy'] = x
    np.testing.assert_array_equal(t, s)
    return params * x, jnp.sin(x)

  nets = Roles(
    student=View(student_of, 0.7, features=aligned), features=features
  )
  _, metrics = rectified_flow(nets, BATCH, KEY, 0, alignment=1.0)
  np.testing.assert_array_equal(seen['clean'], BATCH['x0'])
  expected = similarity(jnp.sin(seen['noisy']), jnp.cos(BATCH['x0']))
  np.testing.assert_allclose(metrics['similarity'], expected.mean(), atol=1e-6)


def test_targets_are_constants():
  def f(a):
    return jnp.sum(features_of(Roles(features=lambda x: a * x), BATCH['x0']))

  assert jax.grad(f)(2.0) == 0


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match=r'^alignment = -1 must be at least 0'):
    loss(-1)
  with pytest.raises(ValueError, match=r'= 5 have the shape \[3, 3, 5\], and'):
    similarity(H, Y[:, :, :, :4])
  with pytest.raises(ValueError, match='makes no features of a hidden layer'):
    View(student_of, 0.7).aligned()
  nets = Roles(student=View(student_of, 0.7, features=features_of_student))
  with pytest.raises(MissingRole, match=r"'frozen\.features' to 'shapes_kl',"):
    rectified_flow(nets, BATCH, KEY, 0, alignment=1.0)
