"""Lengths of training, counted in steps, images or epochs."""

import dataclasses
import fractions
import math
from collections.abc import Mapping
from typing import Any, Self

UNITS = ('steps', 'images', 'epochs')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Length:
  """A duration or an interval: exactly one of the three units is set.

  Args:
    steps: updates of the parameters.
    images: examples seen, over all hosts.
    epochs: passes over the data, which may be a fraction.

  Raises:
    ValueError: if not exactly one is set, or it is negative or not finite.
    TypeError: if `steps` or `images` is not an integer, or `epochs` is not a
      number.
  """

  steps: int | None = None
  images: int | None = None
  epochs: float | None = None

  def __post_init__(self) -> None:
    given = {u: v for u in UNITS if (v := getattr(self, u)) is not None}
    if len(given) != 1:
      raise ValueError(
        f'a length must have exactly one of {", ".join(UNITS)}, got '
        f'{given or "none"}'
      )
    ((unit, value),) = given.items()
    kinds = (int, float) if unit == 'epochs' else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
      kind = 'a number' if unit == 'epochs' else 'an integer'
      raise TypeError(f'a length in {unit} must be {kind}, got {value!r}')
    if not (math.isfinite(value) and value >= 0):
      raise ValueError(f'a length must be finite and at least 0, got {self}')

  @classmethod
  def of(cls, value: Any) -> Self:
    """The length that a config spells as 500 or as {'epochs': 2.5}.

    Raises:
      ValueError: if the dict has not exactly one key, or an unknown one.
      TypeError: if `value` is neither a length, an integer nor a dict.
    """
    if isinstance(value, cls):
      return value
    if isinstance(value, int) and not isinstance(value, bool):
      return cls(steps=value)
    if not isinstance(value, Mapping):
      raise TypeError(
        'a length must be an integer (steps) or a dict with one of the keys '
        f'{", ".join(UNITS)}, got {value!r}'
      )
    if len(value) != 1 or not set(value) <= set(UNITS):
      raise ValueError(
        'a length must be a dict with exactly one of the keys '
        f'{", ".join(UNITS)}, got {dict(value)}'
      )
    return cls(**value)

  def to_steps(self, batch_size: int, dataset_size: int) -> int:
    """The length in steps of `batch_size` examples (over all hosts).

    It is rounded up, so that only 0 is 0 steps. Epochs are read as the decimal
    number that was written: 1.1 epochs of 1000 examples are 1100 examples.
    """
    if self.steps is not None:
      return self.steps
    if self.images is not None:
      return math.ceil(fractions.Fraction(self.images, batch_size))
    images = fractions.Fraction(str(self.epochs)) * dataset_size
    return math.ceil(images / batch_size)

  def __str__(self) -> str:
    unit = next(u for u in UNITS if getattr(self, u) is not None)
    return f'{getattr(self, unit)} {unit}'
