"""The arguments of an evaluator, and the rows that it yields."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from flowdistill.flow.spec import DataSpec

Row = dict[str, Any]
NOWHERE = pathlib.Path(os.devnull)
"""A folder for evaluators whose pictures are not to be written."""
SHEETS = 'sheets'  # the folder of contact sheets


class Drawn(Protocol):
  """Examples `x` [n, ...] and the network calls of each, `nfe` [n]."""

  @property
  def x(self) -> np.ndarray: ...
  @property
  def nfe(self) -> np.ndarray: ...


class Model(Protocol):
  """model(n, ...) -> examples `first` to `first` + n − 1 of a seed.

  Example i is a function of (seed, i).

  `cond` is name -> array [n, ...], {} where the data have no conditions;
  `options` are those of the sampler, 'grid' and 'guidance'. `ask` is the
  network itself, u(x_t [n, ...], t [n], s [n], cond) -> [n, ...], in the space
  that it was trained in; `to_space` and `to_pictures` lead there and back. On
  several processes all are collective, and return the same on each. `defaults`
  are its options where none are given, such as 'grid', unless they are plain.
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
    first: int = 0,
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

  @property
  def defaults(self) -> Mapping[str, Any]: ...
  def to_space(self, x0: np.ndarray, /) -> np.ndarray: ...
  def to_pictures(self, x: np.ndarray, /) -> np.ndarray: ...


Models = Mapping[str, Model]
"""Role, such as 'teacher' or 'student', -> its model."""


class Data(Protocol):
  """The real examples; `source[index [b]]` has `x0` float32 [b, *shape].

  `conditions(index [b])` is name -> array [b, ...], as `spec.cond` says.
  Examples of one number in `figures` [n] show one figure; None where each shows
  its own.
  """

  @property
  def spec(self) -> DataSpec: ...
  @property
  def figures(self) -> np.ndarray | None: ...
  def conditions(self, index: np.ndarray, /) -> dict[str, np.ndarray]: ...
  def __len__(self) -> int: ...
  def __getitem__(self, index: Any, /) -> Mapping[str, np.ndarray]: ...


def real_examples(
  source: Data, most: int, part: np.ndarray | None = None
) -> np.ndarray:
  """x0 [m, *shape] of at most so many examples, evenly spread over all.

  With `part`, of the index in [0, m), only those.
  """
  index = real_index(source, most)
  return source[index if part is None else index[part]]['x0']


def real_index(source: Data, most: int) -> np.ndarray:
  """The numbers [m] of at most so many examples, evenly spread over all."""
  m = min(most, len(source))
  return np.arange(m) * len(source) // m


class Features(Protocol):
  """features(x [n, ...]) -> (features [n, d], logits [n, k]).

  Distances between features have its `name`: 'digits' -> frechet_digits. The
  columns `about` say on what else they depend, such as the hash of its weights.
  """

  @property
  def name(self) -> str: ...
  @property
  def about(self) -> Mapping[str, str]: ...
  def __call__(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]: ...
