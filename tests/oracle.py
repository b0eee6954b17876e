"""Flows that are known in closed form, in the signatures of the project.

A test hands their methods to objectives and samplers in the place of networks:
`average_velocity` is a student u(x_t, t, s, cond), `velocity` a teacher
v(x_t, t, cond).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.flow.transport import expand

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Gaussian:
  """Data N(0, std²), in any number of dimensions, and noise N(0, 1).

  Then x_t ~ N(0, V_t) with V_t = (1 − t)² std² + t², and every path keeps its
  quantile: f(x_t, t, s) = x_t √(V_s / V_t).
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
    """u = (f − x_t) / (s − t), written without the 0 / 0 at s = t.

    √V_s − √V_t = (V_s − V_t) / (√V_s + √V_t), and V is a parabola, so that
    (V_s − V_t) / (s − t) = (1 + std²)(s + t) − 2 std².
    """
    del cond
    a, b = jnp.sqrt(self.variance(t)), jnp.sqrt(self.variance(s))
    slope = (1 + self.std**2) * (s + t) - 2 * self.std**2
    return expand(slope / (a * (a + b)), x) * x


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Points on a line, data ½ N(−mean, std²) + ½ N(mean, std²).

  Its velocity is the mean of those of the two parts, weighted by how likely
  each is at x_t; it is smooth up to t = 0, and not linear in x.
  """

  mean: float = 1.0
  std: float = 0.4

  def velocity(self, x: Array, t: Array, cond: Any = None) -> Array:
    """v(x_t [b, 1], t [b])."""
    del cond
    part, t = Gaussian(self.std), expand(t, x)
    centre = (1 - t) * self.mean
    # P(right | x) − P(left | x)
    lean = jnp.tanh(centre * x / part.variance(t))
    return part.rate(t) * (x - centre * lean) - self.mean * lean

  def average_velocity(
    self, x: Array, t: Array, s: Array, cond: Any = None
  ) -> Array:
    """u(x, t, t) alone, as a Runge-Kutta method asks; else NaN."""
    return jnp.where(expand(s == t, x), self.velocity(x, t, cond), jnp.nan)

  def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
    """Data [n, 1]."""
    side = generator.choice([-1.0, 1.0], size=(n, 1))
    return self.mean * side + self.std * generator.normal(size=(n, 1))
