"""Compares derivatives of a network with differences of its second version."""

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.training.named_arrays import by_name


def check_derivatives(*, second, apply, params, theirs, point, write):
  """In a direction of (x, t) by jvp, and of all learnt weights by gradient.

  Args:
    second: (weights by their names, x, t) -> velocity, in NumPy.
    apply: (our parameters, x, t) -> velocity.
    params: ours, in float64.
    theirs: the same weights, by their names.
    point: x, t.
    write: our arrays by our paths -> by their names.
  """
  rng, h = np.random.default_rng(3), 1e-5
  x, t = point
  dx, along = rng.normal(size=x.shape), rng.normal(size=x.shape)
  wide = {n: a.astype(np.float64) for n, a in theirs.items()}
  directions = {
    n: rng.normal(size=a.shape) * (np.abs(a).mean() + 0.1)
    for n, a in wide.items()
    if not n.endswith(('freqs', 'phases'))
  }

  def moved(h):
    more = {n: wide[n] + h * d for n, d in directions.items()}
    return (along * second(wide | more, x, t)).sum()

  def travelled(h):
    return second(wide, x + h * dx, t + h)

  @jax.jit
  def derivatives(params):
    slope = jax.jvp(
      lambda x, t: apply(params, x, t),
      (jnp.asarray(x), jnp.asarray(t)),
      (jnp.asarray(dx), jnp.ones_like(t)),
    )[1]
    gradient = jax.grad(lambda p: (along * apply(p, x, t)).sum())(params)
    return slope, gradient

  slope, gradient = derivatives(params)
  difference = (travelled(h) - travelled(-h)) / (2 * h)
  assert np.abs(difference).max() > 0.1
  np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-5)
  found = write({n: np.asarray(a) for n, a in by_name(gradient).items()})
  total = sum((found[n] * d).sum() for n, d in directions.items())
  np.testing.assert_allclose(total, (moved(h) - moved(-h)) / (2 * h), rtol=1e-5)
