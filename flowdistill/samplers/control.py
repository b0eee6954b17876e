"""Control of the step size, for every example by itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.flow.transport import expand

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
  """How large an error may be, and how the step follows it.

  Source: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I"
  (1993), section II.4, eqs. 4.11 and 4.13.

  Attributes:
    rtol, atol: the error that is allowed at each coordinate,
      atol + rtol max(|x_t|, |x_s|).
    order: the error goes with the step to the power order + 1.
    safety: what the step that would just do is multiplied by.
    min_factor, max_factor: least and most that a step is multiplied by.
    first_step: length of the first one.
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
    right = {
      'rtol': (self.rtol > 0, 'be above 0'),
      'atol': (self.atol >= 0, 'be at least 0'),
      'safety': (0 < self.safety < 1, 'lie in (0, 1)'),
      'min_factor': (0 < self.min_factor < 1, 'lie in (0, 1)'),
      'max_factor': (self.max_factor > 1, 'be above 1'),
      'first_step': (0 < self.first_step <= 1, 'lie in (0, 1]'),
      'max_steps': (self.max_steps >= 1, 'be at least 1'),
    }
    for name, (holds, wanted) in right.items():
      if not holds:
        raise ValueError(f'{name} = {getattr(self, name)} must {wanted}')

  def size(self, x_t: Array, x_s: Array, error: Array) -> Array:
    """The error [b, ...] over what is allowed, as root mean square [b]."""
    most = jnp.maximum(jnp.abs(x_t), jnp.abs(x_s))
    square = jnp.square(error / (self.atol + self.rtol * most))
    return jnp.sqrt(square.mean(tuple(range(1, square.ndim))))

  def factor(self, size: Array, shrunk: Array) -> Array:
    """What the step is multiplied by, [b].

    Args:
      size: of the error, [b]; 1 is what is allowed.
      shrunk: [b], whether the last attempt failed: then it does not grow yet.
    """
    most = jnp.where(shrunk, 1.0, self.max_factor)
    wanted = self.safety * size ** (-1 / (self.order + 1))
    clipped = jnp.clip(wanted, self.min_factor, most)
    return jnp.where(jnp.isnan(size), self.min_factor, clipped)

  def check_arrived(self, arrived: np.ndarray) -> None:
    """Checks that the end was reached, [b].

    Raises:
      ValueError: saying how many examples were not done in `max_steps`.
    """
    if not arrived.all():
      raise ValueError(
        f'rtol = {self.rtol} must be larger, or max_steps = {self.max_steps}: '
        f'after so many steps {(~arrived).sum()} of {len(arrived)} examples '
        'were still on their way (as they are where a network is not finite)'
      )


def choose(mask: Array, new: Array, old: Array) -> Array:
  """`new` [b, ...] for the examples of a mask [b], `old` for the others."""
  return jnp.where(expand(mask, new), new, old)
