"""What an evaluator is given, and what it yields."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Row = dict[str, Any]


class Draw(Protocol):
  """draw(n, ...) -> n examples [n, ...]; example i is a function of (seed, i).

  `cond` is name -> array [n, ...], without names where the data has no label.
  """

  def __call__(
    self,
    n: int,
    /,
    *,
    sampler: str,
    nfe: int,
    cond: Mapping[str, np.ndarray],
    seed: int,
  ) -> np.ndarray: ...


Models = Mapping[str, Draw]
"""Role, such as 'teacher' or 'student', -> its `draw`."""


class Data(Protocol):
  """The real examples: `x0` float32 [n, *shape], with classes `label` [n]."""

  @property
  def shape(self) -> tuple[int, ...]: ...
  @property
  def num_classes(self) -> int: ...
  @property
  def arrays(self) -> Mapping[str, np.ndarray]: ...


class Features(Protocol):
  """features(x [n, ...]) -> (features [n, d], logits [n, k]).

  `name` is what a distance in them is called: 'digits' -> frechet_digits.
  """

  @property
  def name(self) -> str: ...
  def __call__(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]: ...
