"""The sections of a config: every key, its type and its default.

The markers (`Dataset`, `Network`, ...) stand for a name from that room's table,
with its options; `build/tables.py` says which table each one is.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowdistill.flow.spec import DataSpec
from flowdistill.training.ema import Ema, named
from flowdistill.training.lengths import Length
from flowdistill.training.optim import adam, cosine
from flowdistill.training.rounding import check_dtype
from flowdistill.training.sharding import AXES, RULES, TACTICS

STUDENT = 'student'
"""The role that the keys of the stage itself describe."""
PIXELS: Any = 'pixels'  # a default by its name, as a config says it


class Dataset(Protocol):
  """dataset() -> Source."""

  def __call__(self) -> Any: ...


class Space(Protocol):
  """space(shape of a picture) -> encode, decode, shape, scale."""

  def __call__(self, shape: tuple[int, ...], /) -> Any: ...


class Network(Protocol):
  """network(spec, rngs=...) -> nnx.Module."""

  def __call__(self, spec: DataSpec, /, *, rngs: Any) -> Any: ...


class Objective(Protocol):
  """objective(nets, batch, key, step) -> (loss [b], metrics)."""

  def __call__(
    self, nets: Any, batch: Any, key: Any, step: Any, /
  ) -> tuple[Any, dict[str, Any]]: ...


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
  """features() -> a callable x -> (features [n, d], logits [n, k])."""

  def __call__(self) -> Any: ...


class Evaluator(Protocol):
  """evaluator(models, source, features, folder) -> iterator of rows."""

  def __call__(
    self, models: Any, source: Any, features: Any, folder: Any, /
  ) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Reference:
  """Which weights of which network, trained elsewhere.

  Attributes:
    source: 'stage:NAME' of this config, or the folder of a run or a stage, or
      a file of weights for a role that is read from one (`perceptual`).
    weights: 'ema' for the EMA `main` (without EMAs the parameters), 'params'
      for the raw parameters, or the name of an EMA.
    role: of that stage, whose weights are taken.
    matching: only in `init_from`: takes the arrays that have the name and the
      shape of one of this network, and initialises the others.
    dtype: only in `frozen`: dtype of the weights, 'float32' or 'bfloat16',
      which halves their bytes; the network's large products are in it too.
  """

  source: str
  weights: str = 'ema'
  role: str = STUDENT
  matching: bool = False
  dtype: str = 'float32'

  @classmethod
  def of(cls, value: Any) -> 'Reference':
    """Reads 'stage:flow', or {'source': 'stage:flow', 'weights': 'ema'}."""
    value = {'source': value} if isinstance(value, str) else value
    known = {f.name for f in dataclasses.fields(cls)}
    if not isinstance(value, Mapping) or not {'source'} <= set(value) <= known:
      raise ValueError(
        f"{value!r} must be 'stage:NAME', the folder of a run, or "
        "{'source': ..., 'weights': 'ema'}"
      )
    reference = cls(**value)
    names = reference.source, reference.weights, reference.role
    if not all(isinstance(v, str) and v for v in names):
      raise ValueError(
        f'{value!r}: source, weights and role must be strings, not empty'
      )
    if not isinstance(reference.matching, bool):
      raise ValueError(f'{value!r}: matching must be True or False')
    check_dtype(reference.dtype)
    return reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """How long, and on what batches.

  Attributes:
    steps, images, epochs: the length of the stage; exactly one is given.
    batch_size: examples in a step, over all devices of all hosts.
    drop_cond: share of examples that are trained without their condition.
    flip: whether every other example, by chance, is turned left to right, and
      with it the noise that it is paired with.
  """

  steps: int | None = None
  images: int | None = None
  epochs: float | None = None
  batch_size: int = 128
  drop_cond: float = 0.0
  flip: bool = False

  def __post_init__(self) -> None:
    if self.batch_size < 1:
      raise ValueError(f'batch_size = {self.batch_size} must be at least 1')
    if not 0 <= self.drop_cond <= 1:
      raise ValueError(f'drop_cond = {self.drop_cond} must lie in [0, 1]')
    if self.length.to_steps(self.batch_size, 1) < 1:
      raise ValueError(f'{self.length}: a stage takes at least one step')

  @property
  def length(self) -> Length:
    """The length of the stage, in the unit in which it was given."""
    return Length(steps=self.steps, images=self.images, epochs=self.epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim:
  """The optimiser, its schedule, and what stands around them.

  Attributes:
    optimiser: by name, with its options.
    schedule: of the learning rate, by name, with its options.
    clip: largest global norm of a gradient, None for no clipping.
    accumulate: steps whose gradients are averaged into one update.
  """

  optimiser: Optimiser = adam
  schedule: Schedule = cosine
  clip: float | None = 1.0
  accumulate: int = 1

  def __post_init__(self) -> None:
    if self.accumulate < 1:
      raise ValueError(f'accumulate = {self.accumulate} must be at least 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """When evaluators run, and on what.

  Attributes:
    every: how often while training; None for the end of the stage alone.
    schedules: name of an evaluator -> how often it runs while training, in
      place of `every`.
    dataset: what evaluators measure against, such as the examples that are held
      out; None for those of the stage.
    batch_size: images that are drawn at once.
    features: the feature network, by name; None for points in the plane.
  """

  every: Length | None = None
  schedules: Mapping[str, Length] = dataclasses.field(default_factory=dict)
  dataset: Dataset | None = None
  batch_size: int = 599
  features: Features | None = None

  def __post_init__(self) -> None:
    for every in (self.every, *self.schedules.values()):
      check_every(every)
    if self.batch_size < 1:
      raise ValueError(f'batch_size = {self.batch_size} must be at least 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpointing:
  """How often the state is saved, and what is kept.

  Attributes:
    every: how often it is saved.
    keep: how many of the newest stay.
    keep_every: of what length every multiple stays; None for none.
    best: the figure of an evaluation by which the best stays, such as
      'student/flow_map_1/frechet_digits', the less the better; '' for none.
      What is evaluated is saved then.
  """

  every: Length = Length(steps=500)
  keep: int = 2
  keep_every: Length | None = None
  best: str = ''

  def __post_init__(self) -> None:
    check_every(self.every)
    check_every(self.keep_every)
    if self.keep < 1:
      raise ValueError(f'keep = {self.keep} must be at least 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logging:
  """How often metrics are written."""

  every: Length = Length(steps=50)

  def __post_init__(self) -> None:
    check_every(self.every)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshAxes:
  """How devices are laid out, and arrays on them. It may change on a resume.

  Attributes:
    data: devices along which a batch is cut and parameters are the same; -1 is
      what the other axes leave.
    fsdp: along which both are cut.
    tensor: along which the products of a layer are cut.
    rules: (pattern of an array's path, tactic), the first that matches counts;
      a tactic is 'replicate', 'fsdp', 'column' or 'row'.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1
  rules: tuple[tuple[str, str], ...] = RULES

  def __post_init__(self) -> None:
    rules = tuple((pattern, tactic) for pattern, tactic in self.rules)
    object.__setattr__(self, 'rules', rules)  # JSON has lists
    for name, size in self.sizes.items():
      if size < 1 and size != -1:
        raise ValueError(f'{name} = {size} must be at least 1, or -1')
    if list(self.sizes.values()).count(-1) > 1:
      raise ValueError(f'{self.sizes}: one axis at most may be -1')
    for pattern, tactic in self.rules:
      if tactic not in TACTICS:
        raise ValueError(
          f'rules: {pattern!r} has no tactic {tactic!r}; there are '
          f'{", ".join(TACTICS)}'
        )

  @property
  def sizes(self) -> dict[str, int]:
    """Name of an axis -> its size."""
    return {name: getattr(self, name) for name in AXES}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hosts:
  """Several hosts that train together.

  Attributes:
    timeout: seconds after which a host that does not arrive is named, and the
      others exit with code 75.
  """

  timeout: float = 300.0

  def __post_init__(self) -> None:
    if not self.timeout > 0:
      raise ValueError(f'timeout = {self.timeout} must be above 0')


def check_every(every: Length | None) -> None:
  """Raises ValueError for a length of nothing; None is never, and no error."""
  if every is not None and every.to_steps(1, 1) < 1:
    raise ValueError(f'every = {every} must be at least one step')
