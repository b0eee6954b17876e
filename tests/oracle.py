"""Flows that are known in closed form, with the signatures of networks.

Tests pass their methods to objectives and samplers in place of networks:
`average_velocity` is a student u(x_t, t, s, cond), `velocity` a teacher
v(x_t, t, cond).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from flowdistill.flow.transport import expand

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """Data N(0, std²), in any number of dimensions, and noise N(0, 1).

  Then x_t ~ N(0, V_t) with V_t = (1 − t)² std² + t², and every path stays at
  its quantile: f(x_t, t, s) = x_t √(V_s / V_t).
  """

  std: float = 0.5

  def variance(self, t: Array) -> Array:
    """V_t."""
    return (1 - t) ** 2 * self.std**2 + t**2

  def rate(self, t: Array) -> Array:
    """V'_t / (2 V_t), so that v(x, t) = rate(t) x."""
    return (t - (1 - t) * self.std**2) / self.variance(t)

  def velocity(self, x: Array, t: Array, cond: Any = None) -> Array:
    """v(x_t, t) = x_t V'_t / (2 V_t)."""
    del cond
    return expand(self.rate(t), x) * x

  def flow_map(self, x: Array, t: Array, s: Array) -> Array:
    """f(x_t, t, s) = x_t √(V_s / V_t)."""
    return expand(jnp.sqrt(self.variance(s) / self.variance(t)), x) * x

  def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
    """Data [n, 1]."""
    return self.std * generator.normal(size=(n, 1))

  def average_velocity(
    self, x: Array, t: Array, s: Array, cond: Any = None
  ) -> Array:
    """u = (f − x_t) / (s − t), without the 0 / 0 at s = t.

    √V_s − √V_t = (V_s − V_t) / (√V_s + √V_t), and V is quadratic in t, so
    (V_s − V_t) / (s − t) = (1 + std²)(s + t) − 2 std².
    """
    del cond
    a, b = jnp.sqrt(self.variance(t)), jnp.sqrt(self.variance(s))
    slope = (1 + self.std**2) * (s + t) - 2 * self.std**2
    return expand(slope / (a * (a + b)), x) * x


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Data ½ N(−mean, std²) + ½ N(mean, std²), the same for every coordinate.

  Its velocity is the mean of those of the two components, weighted by their
  posterior probabilities at x_t; it is smooth up to t = 0, and not linear in x.
  In one dimension every path stays at its quantile, so the flow map is
  f = F_s⁻¹(F_t(x)), with F_t the distribution function of x_t. Use float64: u
  divides f − x_t by s − t.
  """

  mean: float = 1.0
  std: float = 0.4

  def velocity(self, x: Array, t: Array, cond: Any = None) -> Array:
    """v(x_t [b, ...], t [b])."""
    del cond
    part, t = Gaussian(self.std), expand(t, x)
    centre = (1 - t) * self.mean
    # P(right | x) − P(left | x)
    lean = jnp.tanh(centre * x / part.variance(t))
    return part.rate(t) * (x - centre * lean) - self.mean * lean

  def flow_map(self, x: Array, t: Array, s: Array) -> Array:
    """f(x_t [b, ...], t [b], s [b]), differentiable by jax.jvp and jax.grad."""
    return jax.jit(_rearranged, static_argnums=0)(
      self, jnp.asarray(x), expand(t, x), expand(s, x)
    )

  def average_velocity(
    self, x: Array, t: Array, s: Array, cond: Any = None
  ) -> Array:
    """u = (f − x_t) / (s − t), and its series in s − t where that is 0 / 0.

    u = v + (s − t) / 2 dv/dt + ...; two terms are enough for the first
    derivatives at s = t.
    """
    del cond
    f = self.flow_map(x, t, s)
    gap, one = expand(s - t, x), jnp.ones_like(t)
    v = self.velocity(x, t)
    _, dv_dt = jax.jvp(self.velocity, (x, t), (v, one))
    still = gap == 0
    u = (f - x) / jnp.where(still, 1, gap)
    return jnp.where(still, v + gap / 2 * dv_dt, u)

  def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
    """Data [n, 1]."""
    side = generator.choice([-1.0, 1.0], size=(n, 1))
    return self.mean * side + self.std * generator.normal(size=(n, 1))

  def parts(self, x: Array, t: Array) -> tuple[Array, Array, Array]:
    """x relative to both centres in standard deviations, and their size."""
    std = jnp.sqrt(Gaussian(self.std).variance(t))
    centre = (1 - t) * self.mean
    return (x + centre) / std, (x - centre) / std, std

  def log_density(self, x: Array, t: Array) -> Array:
    """log p_t(x), for t that broadcasts to x."""
    left, right, std = self.parts(x, t)
    log_parts = jnp.logaddexp(norm.logpdf(left), norm.logpdf(right))
    return log_parts - jnp.log(2 * std)

  def log_below(self, x: Array, t: Array) -> Array:
    """log F_t(x), to full precision for x <= 0."""
    left, right, _ = self.parts(x, t)
    return jnp.logaddexp(norm.logcdf(left), norm.logcdf(right)) - jnp.log(2.0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _rearranged(flow: Mixture, x: Array, t: Array, s: Array) -> Array:
  """The f with F_s(f) = F_t(x), solved for x <= 0, because the flow is odd.

  F_t lies between the distribution functions of the two components, which
  brackets f; the bracket is bisected, and Newton's method finishes.
  """
  below = -jnp.abs(x)
  wanted = flow.log_below(below, t)
  high, low, _ = flow.parts(below, t)  # in standard deviations, then in x
  _, _, std = flow.parts(below, s)
  centre = (1 - s) * flow.mean
  bracket = low * std - centre, jnp.minimum(high * std + centre, 0)

  def halve(_, bracket):
    low, high = bracket
    middle = (low + high) / 2
    under = flow.log_below(middle, s) < wanted
    return jnp.where(under, middle, low), jnp.where(under, high, middle)

  def newton(_, f):
    log_below = flow.log_below(f, s)
    slope = jnp.exp(flow.log_density(f, s) - log_below)
    return f - (log_below - wanted) / slope

  low, high = jax.lax.fori_loop(0, 20, halve, bracket)
  f = jax.lax.fori_loop(0, 4, newton, (low + high) / 2)
  return -jnp.sign(x) * f


@_rearranged.defjvp
def _rearranged_jvp(flow, primals, tangents):
  """df/ds = v(f, s), df/dx = p_t(x) / p_s(f), df/dt = −v(x, t) df/dx."""
  (x, t, s), (dx, dt, ds) = primals, tangents
  f = _rearranged(flow, x, t, s)
  stretch = jnp.exp(flow.log_density(x, t) - flow.log_density(f, s))
  moved = stretch * (dx - flow.velocity(x, t) * dt)
  return f, moved + flow.velocity(f, s) * ds
