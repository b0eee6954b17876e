"""What an evaluator is given, and what it yields."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Row = dict[str, Any]


class Drawn(Protocol):
  """Examples `x` [n, ...], and how often each asked the network: `nfe` [n]."""

  @property
  def x(self) -> np.ndarray: ...
  @property
  def nfe(self) -> np.ndarray: ...


class Model(Protocol):
  """model(n, ...) -> n examples; example i is a function of (seed, i).

  `cond` is name -> array [n, ...], without names where the data has no label;
  `options` are those of the sampler, 'grid' and 'guidance'. `ask` is the
  network itself, u(x_t [n, ...], t [n], s [n], cond) -> [n, ...].
  """

  def __call__(
    self,
    n: int,
    /,
    *,
    sampler: str,
    nfe: int | None,
    cond: Mapping[str, np.ndarray],
    seed: int,
    **options: Any,
  ) -> Drawn: ...

  def ask(
    self,
    x_t: np.ndarray,
    t: np.ndarray,
    s: np.ndarray,
    cond: Mapping[str, np.ndarray],
    /,
  ) -> np.ndarray: ...


Models = Mapping[str, Model]
"""Role, such as 'teacher' or 'student', -> its model."""


class Data(Protocol):
  """The real examples; `source[index [b]]` has `x0` float32 [b, *shape].

  With classes it has `label` too, and `labels` are those of all of them, int32
  [n]; without, that is None.
  """

  @property
  def shape(self) -> tuple[int, ...]: ...
  @property
  def num_classes(self) -> int: ...
  @property
  def labels(self) -> np.ndarray | None: ...
  def __len__(self) -> int: ...
  def __getitem__(self, index: Any, /) -> Mapping[str, np.ndarray]: ...


def real_examples(source: Data, most: int) -> np.ndarray:
  """x0 [m, *shape] of as many examples, spread evenly over all of them."""
  m = min(most, len(source))
  return source[np.arange(m) * len(source) // m]['x0']


class Features(Protocol):
  """features(x [n, ...]) -> (features [n, d], logits [n, k]).

  `name` is what a distance in them is called: 'digits' -> frechet_digits.
  """

  @property
  def name(self) -> str: ...
  def __call__(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]: ...
