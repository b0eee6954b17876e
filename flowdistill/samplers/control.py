"""Control of the step size, separately for every example."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.flow.transport import expand

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
  """The error that a step may make, and how the step size follows the error.

  Source: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I"
  (1993), section II.4, eqs. 4.11 and 4.13.

  Attributes:
    rtol, atol: the error allowed in each coordinate,
      atol + rtol max(|x_t|, |x_s|).
    order: the error is of order h^(order + 1) in the step size h.
    safety: factor on the step size that would just be accepted.
    min_factor, max_factor: limits on the factor from one step to the next.
    first_step: size of the first one.
    max_steps: attempts, accepted or not, after which it gives up.

  Raises:
    ValueError: for a value out of range.
  """

  rtol: float
  atol: float
  order: int
  safety: float
  min_factor: float
  max_factor: float
  first_step: float
  max_steps: int

  def __post_init__(self) -> None:
    ranges = {
      'rtol': (self.rtol > 0, 'be above 0'),
      'atol': (self.atol >= 0, 'be at least 0'),
      'safety': (0 < self.safety < 1, 'lie in (0, 1)'),
      'min_factor': (0 < self.min_factor < 1, 'lie in (0, 1)'),
      'max_factor': (self.max_factor > 1, 'be above 1'),
      'first_step': (0 < self.first_step <= 1, 'lie in (0, 1]'),
      'max_steps': (self.max_steps >= 1, 'be at least 1'),
    }
    for name, (valid, wanted) in ranges.items():
      if not valid:
        raise ValueError(f'{name} = {getattr(self, name)} must {wanted}')

  def size(self, x_t: Array, x_s: Array, error: Array) -> Array:
    """The error [b, ...] relative to the allowed one: root mean square [b]."""
    scale = jnp.maximum(jnp.abs(x_t), jnp.abs(x_s))
    square = jnp.square(error / (self.atol + self.rtol * scale))
    return jnp.sqrt(square.mean(tuple(range(1, square.ndim))))

  def factor(self, size: Array, rejected: Array) -> Array:
    """The factor from this step size to the next, [b].

    Args:
      size: of the error, [b]; 1 is the allowed one.
      rejected: [b], whether the last attempt was; then the step does not grow.
    """
    most = jnp.where(rejected, 1.0, self.max_factor)
    wanted = self.safety * size ** (-1 / (self.order + 1))
    clipped = jnp.clip(wanted, self.min_factor, most)
    return jnp.where(jnp.isnan(size), self.min_factor, clipped)

  def check_arrived(self, arrived: np.ndarray) -> None:
    """Checks that every example reached the end, [b].

    Raises:
      ValueError: with the number of examples that did not in `max_steps`.
    """
    if not arrived.all():
      raise ValueError(
        f'rtol = {self.rtol} must be larger, or max_steps = {self.max_steps}: '
        f'after so many steps {(~arrived).sum()} of {len(arrived)} examples '
        'had not reached the end (nor do they where a network is not finite)'
      )


def choose(mask: Array, new: Array, old: Array) -> Array:
  """`new` [b, ...] for the examples of a mask [b], `old` for the others."""
  return jnp.where(expand(mask, new), new, old)
