"""What a config may say of one stage: every key, its type and its default.

The markers (`Dataset`, `Network`, ...) stand for 'a name from that room's
table, with its options'; `build.py` says which table each one is.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowdistill.objectives.roles import PERCEPTUAL
from flowdistill.training.ema import Ema, named
from flowdistill.training.lengths import Length
from flowdistill.training.optim import adam, cosine
from flowdistill.training.rounding import check_dtype
from flowdistill.training.sharding import AXES, RULES, TACTICS
from flowdistill.training.state import MAIN


class Dataset(Protocol):
  """dataset() -> Source."""

  def __call__(self) -> Any: ...


class Network(Protocol):
  """network(shape, num_classes, rngs=...) -> nnx.Module."""

  def __call__(
    self, shape: tuple[int, ...], num_classes: int, /, *, rngs: Any
  ) -> Any: ...


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
class Origin:
  """Where weights come from.

  Attributes:
    source: 'stage:NAME' of this config, or the folder of a run or a stage. Of
      the role `perceptual` alone, a file.
    weights: 'ema' for the EMA `main` (without EMAs the parameters), 'params'
      for the raw parameters, or the name of an EMA.
    matching: of `init_from` alone, to take the arrays that are there with the
      same name and shape, and leave the others as they are initialised.
    dtype: of `frozen` alone, what the weights are kept in, 'float32' or
      'bfloat16': then they take half the bytes, and the large products of the
      network are made in bfloat16 too.
  """

  source: str
  weights: str = 'ema'
  matching: bool = False
  dtype: str = 'float32'

  @classmethod
  def of(cls, value: Any) -> 'Origin':
    """Reads 'stage:flow', or {'source': 'stage:flow', 'weights': 'ema'}."""
    value = {'source': value} if isinstance(value, str) else value
    known = {f.name for f in dataclasses.fields(cls)}
    if not isinstance(value, Mapping) or not {'source'} <= set(value) <= known:
      raise ValueError(
        f"{value!r}: say where from, as 'stage:NAME' or a run's folder, or as "
        "{'source': ..., 'weights': 'ema'}"
      )
    made = cls(**value)
    names = made.source, made.weights
    if not all(isinstance(v, str) and v for v in names):
      raise ValueError(f'{value!r}: source and weights are strings, not empty')
    if not isinstance(made.matching, bool):
      raise ValueError(f'{value!r}: matching is True or False')
    check_dtype(made.dtype)
    return made


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One stage of a run.

  Attributes:
    job: 'train'; there are stages of other jobs, see `pair_stage.py`.
    seed: of parameters, data order and noise.
    dataset, network, objective: by name, with their options.
    optim, train, evaluation, checkpoint, log, mesh, hosts: see their sections.
    ema: name -> EMA of the student's parameters, by its kind, with options;
      `main` is the one that is sampled.
    frozen: role -> where that network comes from, such as `teacher`;
      `perceptual` comes from a file of LPIPS weights.
    init_from: where the student's first weights come from; None is scratch.
    resume: a stage's folder whose whole state is taken over at the start.
    pairs: what it learns from in the place of the data set's examples:
      'stage:NAME', or a folder of pairs; evaluators measure against the data.
    evaluators: any name -> evaluator by name, with its options.
  """

  job: str = 'train'
  dataset: Dataset
  network: Network
  objective: Objective
  train: Train
  seed: int = 0
  optim: Optim = Optim()
  ema: Mapping[str, EmaKind] = dataclasses.field(default_factory=dict)
  frozen: Mapping[str, Origin] = dataclasses.field(default_factory=dict)
  init_from: Origin | None = None
  resume: str | None = None
  pairs: str | None = None
  evaluation: Evaluation = Evaluation()
  evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
  checkpoint: Checkpointing = Checkpointing()
  log: Logging = Logging()
  mesh: MeshAxes = MeshAxes()
  hosts: Hosts = Hosts()

  def __post_init__(self) -> None:
    if self.seed < 0:
      raise ValueError(f'seed = {self.seed} must be at least 0')
    if self.ema and MAIN not in self.ema:
      raise ValueError(
        f'ema has {list(self.ema)}: one is called {MAIN!r}, and is sampled'
      )

  @property
  def flows(self) -> dict[str, Origin]:
    """The frozen networks that are flows: those that one can draw from."""
    return {r: origin for r, origin in self.frozen.items() if r != PERCEPTUAL}
