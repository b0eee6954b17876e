"""What tests of RCGM and TwinFlow share: a formula, and networks for it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from oracle import Gaussian

from flowdistill.flow.transport import expand
from flowdistill.objectives.branches import Kinds

CONDITIONAL, UNCONDITIONAL = Gaussian(0.5), Gaussian(0.9)


def at(t, s):
  """A law of pairs of times that is no law: always these."""
  return lambda key, n: (jnp.broadcast_to(t, n), jnp.broadcast_to(s, n))


def wavy(x, t, s, cond=None):
  """An average velocity that is that of no flow, and at no (t, s) nothing."""
  return jnp.sin(x + expand(t, x)) * expand(2 + s - t**2, x)


def residual(u, F, v, x, t, s, order, delta=0.01):
  """((t − s) F − I) / δ − v, the integral summed up as the paper has it."""
  x, integral = x - delta * v, 0.0
  times = [t - delta + i / order * (s - t + delta) for i in range(order + 1)]
  for a, b in itertools.pairwise(times):
    step = expand(a - b, x) * u(x, a, b)
    x, integral = x - step, integral + step
  return (expand(t - s, x) * F - integral) / delta - v


def of_label(x, t, cond):
  """The velocity of one Gaussian under label 0, of another under label 1."""
  both = [flow.velocity(x, t) for flow in (CONDITIONAL, UNCONDITIONAL)]
  return jnp.where(expand(cond['label'], x) == 0, *both)


def guided(better, worse):
  """The flow map's u of better · v_c + worse · v_u, of those two Gaussians.

  Each velocity is V' / (2 V) x, so that f is a product of powers of V_s / V_t.
  """

  def u(x, t, s, cond=None):
    f = 1.0
    for flow, power in ((CONDITIONAL, better), (UNCONDITIONAL, worse)):
      f *= (flow.variance(s) / flow.variance(t)) ** (power / 2)
    return expand((f - 1) / (s - t), x) * x

  return u


N, DIMS = 64, 3
NAMES = ('e2e', 'mul', 'any', 'adv', 'one')


def only(**weights):
  return Kinds(**{**dict.fromkeys(NAMES, 0.0), **weights})


def batch(flow=CONDITIONAL, n=N, dims=DIMS):
  generator = np.random.default_rng(0)
  x0 = np.stack([flow.draw(generator, n)[:, 0] for _ in range(dims)], axis=1)
  return {
    'x0': jnp.asarray(x0),
    'cond': {'label': jnp.zeros(n)},
    'null': {'label': jnp.ones(n)},
  }


def noted(u, calls):
  """The network u, which records its inputs outside of a loop."""

  def network(x, *rest):
    if not isinstance(x, jax.core.Tracer):
      calls.append((x, *rest))
    return u(x, *rest)

  return network
