"""The arguments of an evaluator, and the rows that it yields."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from flowdistill.flow.spec import DataSpec
from flowdistill.metrics.geneval import Detection, Prompt
from flowdistill.metrics.moments import Moments

Row = dict[str, Any]
Arrays = dict[str, np.ndarray]
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
  several processes all are collective, and return the same on each.
  `defaults_of(sampler)` are its options where none are given, such as 'grid',
  unless they are plain, or the sampler has its own.
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

  def defaults_of(self, sampler: str, /) -> Mapping[str, Any]: ...
  def to_space(self, x0: np.ndarray, /) -> np.ndarray: ...
  def to_pictures(self, x: np.ndarray, /) -> np.ndarray: ...


Models = Mapping[str, Model]
"""Role, such as 'teacher' or 'student', -> its model."""


class Data(Protocol):
  """The real examples; `source[index [b]]` has `x0` float32 [b, *shape].

  `conditions(index [b])` is name -> array [b, ...], as `spec.cond` says, and
  `captions(index)` what the examples show in words, None where that is unknown.
  `prompts(index)` are captions with what a picture of them must show, and
  `detect(picture [h, w, c])` finds that; both are None for most data.
  `encode(prompts)` are the conditions [n, ...] that n texts become.
  `title` is a name for tables; `identity` says whether two sources have the
  same examples, as JSON, None if that is unknown.
  Examples of one number in `figures` [n] show one figure; None where each shows
  its own.
  """

  @property
  def spec(self) -> DataSpec: ...
  @property
  def figures(self) -> np.ndarray | None: ...
  @property
  def title(self) -> str: ...
  @property
  def identity(self) -> Mapping[str, Any] | None: ...
  def conditions(self, index: np.ndarray, /) -> dict[str, np.ndarray]: ...
  def captions(self, index: np.ndarray, /) -> list[str] | None: ...
  def prompts(self, index: np.ndarray, /) -> list[Prompt] | None: ...
  @property
  def detect(self) -> Callable[[np.ndarray], list[Detection]] | None: ...
  def encode(self, prompts: Sequence[str], /) -> dict[str, np.ndarray]: ...
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


class Described(Protocol):
  """What is known of a feature network that is on no device yet.

  Its features are of `kinds`: 'features', of which distances are; 'logits', if
  it classifies; 'spatial', of the Inception network; 'pairs', if it embeds
  captions in the space of the features. `length_of(kind)` is a width.

  Figures have its `name`: 'digits' gives frechet_digits. The columns `about`
  say on what else they depend, such as the hash of its weights.
  """

  @property
  def name(self) -> str: ...
  @property
  def about(self) -> Mapping[str, str]: ...
  @property
  def kinds(self) -> tuple[str, ...]: ...
  def length_of(self, kind: str, /) -> int: ...


class Features(Described, Protocol):
  """A feature network: x [n, ...] -> kind -> array [n, width].

  `text` gives the embeddings [n, d] of captions, if `kinds` has 'pairs'.
  """

  def __call__(self, x: np.ndarray, /) -> Arrays: ...
  def text(self, captions: Sequence[str], /) -> np.ndarray: ...


class Gauge(Protocol):
  """Feature networks at work.

  `kept(about, make)` are the arrays make(), or those of a process that was
  killed; `row` is the same for a row, after which what it was made of is
  dropped. `lasting` are kept for later evaluations, too. All are collective.
  `watched(total, first, label)` shows how many samples are done and the time
  that is left: it is a context, and its value is called with each number.

  `validation` are held-out examples whose own distance from the reference is a
  unit; `examples` are compared with in place of the data, and `reference` are
  moments of a file in place of any. All three may be None.
  """

  @property
  def networks(self) -> Sequence[Features]: ...
  @property
  def validation(self) -> Data | None: ...
  @property
  def examples(self) -> Data | None: ...
  @property
  def reference(self) -> 'Reference | None': ...
  def kept(
    self, about: Mapping[str, Any], make: Callable[[], Arrays], /
  ) -> Arrays: ...
  def lasting(
    self, about: Mapping[str, Any], make: Callable[[], Arrays], /
  ) -> Arrays: ...
  def row(
    self, about: Mapping[str, Any], make: Callable[[], Row], /
  ) -> Row: ...
  def watched(
    self, total: int, first: int, label: str, /
  ) -> contextlib.AbstractContextManager[Callable[[int], None]]: ...


class Reference(Protocol):
  """Statistics of a file: those of a network, and columns that say of what.

  Raises:
    ValueError: if they are of another network.
  """

  @property
  def about(self) -> Mapping[str, str]: ...
  def moments(self, network: Described, kind: str, /) -> Moments: ...
