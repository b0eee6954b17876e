"""Norms of a residual, and losses based on them: [b, ...] -> [b]."""

from typing import Protocol

import jax
import jax.numpy as jnp

from flowdistill.flow.transport import expand

Array = jax.Array


class Distance(Protocol):
  """distance(x [b, ...], y [b, ...]) -> [b]."""

  def __call__(self, x: Array, y: Array, /) -> Array: ...


class Reduction(Protocol):
  """reduction(x [b, ...]) -> [b], over all axes but the first."""

  def __call__(self, x: Array, /) -> Array: ...


def total(x: Array) -> Array:
  """The sum over all axes but the first: ‖·‖² of squares."""
  return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def mean(x: Array) -> Array:
  """The mean over all axes but the first: the sum over n = h w c elements."""
  return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def half_sum(x: Array) -> Array:
  """Half of the sum, which SlimFlow's code has where it does not average."""
  return 0.5 * total(x)


REDUCTIONS = {'sum': total, 'mean': mean, 'half_sum': half_sum}


def squared_norm(x: Array) -> Array:
  """‖x‖², summed over all axes but the first: [b, ...] -> [b]."""
  return total(jnp.square(x))


def mean_square(x: Array) -> Array:
  """The mean of x² over all axes but the first: [b, ...] -> [b]."""
  return mean(jnp.square(x))


def l2(x: Array, y: Array, reduction: Reduction = mean) -> Array:
  """(x − y)², reduced over all axes but the first."""
  return reduction(jnp.square(x - y))


def l1(x: Array, y: Array, reduction: Reduction = mean) -> Array:
  """|x − y|, reduced over all axes but the first."""
  return reduction(jnp.abs(x - y))


DISTANCES = {'l2': l2, 'l1': l1}


def adaptive(loss: Array, *, p: float, c: float) -> Array:
  """loss / sg(loss + c)^p, so that no example dominates the others.

  Source: Geng et al., "Mean Flows for One-step Generative Modeling" (2025),
  https://arxiv.org/abs/2505.13447, section 4.3 and appendix B.2.

  Args:
    loss: squares, reduced over the example, [b]. The paper sums them; of the
      mean over n elements, c / n gives the same weights up to n^(p − 1).
    p: 0 disables the weight; 1 normalises the loss; 0.5 is a pseudo-Huber loss.
    c: keeps the division finite, above 0.

  Raises:
    ValueError: if `c` is not above 0.
  """
  if not c > 0:
    raise ValueError(f'c = {c} must be above 0')
  return loss / jax.lax.stop_gradient(loss + c) ** p if p else loss


def barron(mean_square: Array, *, c: float) -> Array:
  """m / √(sg(m) + c²): its gradient is that of Barron's loss at α = 1.

  Up to a factor that loss is √(x²/c² + 1) − 1, quadratic for small |x| and
  linear for large |x|.

  Source: Barron, "A General and Adaptive Robust Loss Function" (2019),
  https://arxiv.org/abs/1701.03077, eq. 1 at α = 1, as TwinFlow (2025),
  https://arxiv.org/abs/2512.05150, uses it. Its code, `√(c² + 1e-8) / c` times
  this loss at √(c² + 1e-8), has 1.005 for both factors at c = 1e-3. They guard
  against c = 0, which is refused here, and make c no longer the transition.

  Args:
    mean_square: m, the mean of squares of an example, [b]. Of the sum over n
      elements, √n c gives the same loss up to √n.
    c: |x| at the transition, above 0.

  Raises:
    ValueError: if `c` is not above 0.
  """
  if not c > 0:
    raise ValueError(f'c = {c} must be above 0')
  return mean_square / jnp.sqrt(jax.lax.stop_gradient(mean_square) + c**2)


def normalise_tangent(g: Array, c: float) -> Array:
  """g / (‖g‖₂ + c), with the norm over all axes but the first.

  Source: Lu & Song, "Simplifying, Stabilizing and Scaling Continuous-Time
  Consistency Models" (2024), https://arxiv.org/abs/2410.11081, section 4.2;
  Align Your Flow, Algorithm 1, line 9.

  Raises:
    ValueError: if `c` is negative.
  """
  if c < 0:
    raise ValueError(f'c = {c} must be at least 0')
  return g / (expand(jnp.sqrt(squared_norm(g)), g) + c)
