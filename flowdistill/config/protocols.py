"""What is called by name in a config, as signatures.

Each is a marker (`Dataset`, `Network`, ...), which stands for a name in that
room's table and its options; `build/tables.py` maps each to its table.
"""

from collections.abc import Callable
from typing import Any, Protocol

from flowdistill.flow.spec import DataSpec
from flowdistill.training.ema import Ema, named
from flowdistill.training.lengths import Length


class Dataset(Protocol):
  """dataset() -> Source."""

  def __call__(self) -> Any: ...


class Space(Protocol):
  """space(shape of a picture) -> encode, decode, shape, scale."""

  def __call__(self, shape: tuple[int, ...], /) -> Any: ...


class TextEncoder(Protocol):
  """text_encoder() -> what makes arrays of captions."""

  def __call__(self) -> Any: ...


class Network(Protocol):
  """network(spec, rngs=...) -> nnx.Module."""

  def __call__(self, spec: DataSpec, /, *, rngs: Any) -> Any: ...


class Optimiser(Protocol):
  """optimiser(schedule) -> optax.GradientTransformation."""

  def __call__(self, schedule: Any, /) -> Any: ...


class Schedule(Protocol):
  """schedule(total_steps, to_steps) -> optax.Schedule."""

  def __call__(
    self, total_steps: int, to_steps: Callable[[Length], int], /
  ) -> Any: ...


class EmaKind(Protocol):
  """ema(total_steps, to_steps) -> Ema. `named` adds a name that is missing."""

  named = staticmethod(named)

  def __call__(
    self, total_steps: int, to_steps: Callable[[Length], int], /
  ) -> Ema: ...


class Features(Protocol):
  """features() -> what has `networks`, and `check` for a shape."""

  def __call__(self) -> Any: ...


class Evaluator(Protocol):
  """evaluator(models, source, gauge, folder) -> iterator of rows."""

  def __call__(
    self, models: Any, source: Any, features: Any, folder: Any, /
  ) -> Any: ...
