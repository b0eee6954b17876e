"""The sections of a config that say what a run keeps and shows, and where."""

import dataclasses

from flowdistill.config.bind import suggest
from flowdistill.config.sections import check_every
from flowdistill.training.ema_snapshots import check_snapshot_dtype
from flowdistill.training.lengths import Length
from flowdistill.training.mesh import AXES
from flowdistill.training.tactics import RULES, TACTICS
from flowdistill.training.trackers import TRACKERS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpointing:
  """How often the state is saved, and which checkpoints are kept.

  Attributes:
    every: interval of saving.
    keep: how many of the newest are kept.
    keep_every: checkpoints at its multiples are kept; None disables it.
    best: the figure of an evaluation by which the best checkpoint is kept, such
      as 'student/flow_map_1/frechet_digits', lower is better; '' disables it.
      Every state that is evaluated is then saved.
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
class EmaSnapshots:
  """When EMAs of kind `power` are kept, from which others are reconstructed.

  Attributes:
    every: interval; None keeps none.
    dtype: in which they are kept, 'float16' or 'float32'.
  """

  every: Length | None = None
  dtype: str = 'float16'

  def __post_init__(self) -> None:
    check_every(self.every)
    check_snapshot_dtype(self.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Logging:
  """How often metrics are written, and which programs draw them.

  Attributes:
    every: interval.
    trackers: names in TRACKERS: 'tensorboard', 'wandb' (Weights & Biases) or
      'trackio'; metrics.jsonl is written whatever they are.
  """

  every: Length = Length(steps=50)
  trackers: tuple[str, ...] = ('tensorboard',)

  def __post_init__(self) -> None:
    check_every(self.every)
    object.__setattr__(self, 'trackers', tuple(self.trackers))  # JSON has lists
    for name in self.trackers:
      if name not in TRACKERS:
        raise ValueError(
          f'trackers = {list(self.trackers)} must have names of trackers; '
          f'{suggest(name, TRACKERS)}'
        )
    if len(set(self.trackers)) < len(self.trackers):
      raise ValueError(f'trackers = {list(self.trackers)} must differ')


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshAxes:
  """The mesh of devices and the sharding of arrays; it may change on a resume.

  Attributes:
    data: devices along which a batch is sharded and parameters are replicated;
      -1 is the number that the other axes leave.
    fsdp: devices along which both are sharded.
    tensor: devices along which the products of a layer are sharded.
    rules: (pattern of an array's path, tactic), of which the first match is
      used; a tactic is 'replicate', 'fsdp', 'column' or 'row'.
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
      raise ValueError(f'{self.sizes} must have at most one axis of -1')
    for pattern, tactic in self.rules:
      if tactic not in TACTICS:
        raise ValueError(
          f'rules: the tactic {tactic!r} of {pattern!r} must be one of '
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
    timeout: seconds without a host after which it is named in an error, and
      the others exit with code 75.
  """

  timeout: float = 300.0

  def __post_init__(self) -> None:
    if not self.timeout > 0:
      raise ValueError(f'timeout = {self.timeout} must be above 0')
