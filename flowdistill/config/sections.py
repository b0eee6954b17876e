"""The sections of a config that say what is learnt: keys, types and defaults.

Those of what a run keeps and where it runs are in `run_sections.py`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from flowdistill.config.bind import suggest
from flowdistill.config.protocols import Dataset, Features, Optimiser, Schedule
from flowdistill.training.lengths import Length
from flowdistill.training.optim import adam, cosine
from flowdistill.training.rounding import DTYPES, check_dtype

STUDENT = 'student'
"""The role that the keys of the stage itself describe."""
PIXELS: Any = 'pixels'  # a default by its name, as in a config


@dataclasses.dataclass(frozen=True)
class Reference:
  """Weights of a network that was trained in another stage or run.

  Attributes:
    source: 'stage:NAME' of this config, or the folder of a run or a stage; a
      folder of diffusers, with config.json and weights, or a .safetensors of
      FLUX.1 or SD3, or either of the hub, see `build/hub.py`; or a file of
      weights for a role that is read from one (`perceptual`, `features`).
    weights: 'ema' for the EMA `main` (without EMAs the parameters), 'params'
      for the raw parameters, the name of an EMA, or 'power:0.1' for the power
      EMA of that relative width, which is reconstructed from snapshots.
    role: the role of that stage whose weights are taken.
    matching: only in `init_from`: takes the arrays whose name and shape match
      an array of this network, and initialises the others.
    dtype: only in `frozen`, and in the `init_from` of a LoRA: dtype of the
      frozen weights, 'float32' or 'bfloat16', which halves the memory. In
      `frozen` it is that of the network's large products, too.
    attention_form: only in `frozen`: that of the network, see its options; None
      is the one with which it was trained.
    lora: only of a published network: a file with a LoRA of its network that
      is merged with the weights; None is without.
    offload: only in `frozen`, and in the `init_from` of a LoRA: whether the
      weights are in the memory of the hosts. The devices fetch those of each
      layer when it runs.
  """

  source: str
  weights: str = 'ema'
  role: str = STUDENT
  matching: bool = False
  dtype: str = 'float32'
  attention_form: str | None = None
  lora: str | None = None
  offload: bool = False

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
    for name in ('matching', 'offload'):
      if not isinstance(getattr(reference, name), bool):
        raise ValueError(f'{value!r}: {name} must be True or False')
    check_dtype(reference.dtype)
    for name in ('attention_form', 'lora'):
      if not isinstance(getattr(reference, name), str | None):
        raise ValueError(f'{value!r}: {name} must be a string or None')
    return reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """The length of training, and its batches.

  Attributes:
    steps, images, epochs: the length of the stage; exactly one is given.
    batch_size: examples in a step, over all devices of all hosts.
    drop_cond: share of examples that are trained without their condition.
    flip: whether a random half of the examples is mirrored left to right,
      together with the noise that each is paired with.
    data_free: whether only the conditions of the examples are read, and no
      picture is opened: for an objective that uses none.
  """

  steps: int | None = None
  images: int | None = None
  epochs: float | None = None
  batch_size: int = 128
  drop_cond: float = 0.0
  flip: bool = False
  data_free: bool = False

  def __post_init__(self) -> None:
    if self.batch_size < 1:
      raise ValueError(f'batch_size = {self.batch_size} must be at least 1')
    if not 0 <= self.drop_cond <= 1:
      raise ValueError(f'drop_cond = {self.drop_cond} must lie in [0, 1]')
    if self.length.to_steps(self.batch_size, 1) < 1:
      raise ValueError(f'{self.length}: a stage must have at least one step')

  @property
  def length(self) -> Length:
    """The length of the stage, in the unit in which it was given."""
    return Length(steps=self.steps, images=self.images, epochs=self.epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim:
  """The optimiser, its schedule, clipping and gradient accumulation.

  Attributes:
    optimiser: by name, with its options.
    schedule: of the learning rate, by name, with its options.
    clip: largest global norm of a gradient; None disables clipping.
    accumulate: steps whose gradients are averaged into one update.
    only: pattern of the paths of the parameters that learn, such as 'times.*';
      the others keep the weights that they start from.
    state_dtype: in which the optimiser keeps its moments, 'float32' or
      'bfloat16', which halves their memory; these are rounded stochastically.
  """

  optimiser: Optimiser = adam
  schedule: Schedule = cosine
  clip: float | None = 1.0
  accumulate: int = 1
  only: str = '*'
  state_dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.accumulate < 1:
      raise ValueError(f'accumulate = {self.accumulate} must be at least 1')
    check_choice('state_dtype', self.state_dtype, DTYPES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank factors that learn, beside the frozen weights of `init_from`.

  Attributes:
    layers: patterns of the names of layers that get factors, such as
      'blocks.*.qkv': linear layers and convolutions.
    rank: r of the factors A [n_in, r] and B [r, n_out].
    alpha: A B is multiplied by alpha / rank; None is alpha = rank.
    dropout: rate of the masks of the inputs of A, in [0, 1).
    full: patterns of the paths of arrays that learn themselves, such as
      'times.of_s.*', and all those that `init_from` does not have.
  """

  layers: tuple[str, ...] = ()
  rank: int = 8
  alpha: float | None = None
  dropout: float = 0.0
  full: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    for name in ('layers', 'full'):
      patterns = tuple(getattr(self, name))
      object.__setattr__(self, name, patterns)  # JSON has lists
      if '' in patterns or len(set(patterns)) < len(patterns):
        raise ValueError(
          f'{name} = {list(patterns)} must be patterns, each once'
        )
    if not self.layers:
      raise ValueError(
        "layers = [] must name at least one layer, such as 'blocks.*.qkv'"
      )
    if self.rank < 1:
      raise ValueError(f'rank = {self.rank} must be at least 1')
    if self.alpha is not None and not self.alpha > 0:
      raise ValueError(f'alpha = {self.alpha} must be above 0, or None')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout = {self.dropout} must lie in [0, 1)')

  @property
  def scale(self) -> float:
    """α / r."""
    return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """When evaluators run, and the examples that they compare with.

  Attributes:
    every: interval while training; None runs them only at the end of the stage.
    schedules: name of an evaluator -> its own interval, in place of `every`.
    dataset: the real examples, such as held-out ones; None is the data set of
      the stage.
    batch_size: images that are drawn at once; fewer take as long, as a batch is
      filled up.
    validation: held-out examples whose own Fréchet distance from those is the
      unit of `frechet_ratio`; None measures none.
    reference: a file of statistics, or images, that samples are compared with
      in place of the data (docs/evaluation.md); None compares with the data.
    features: the feature network, by name; None for points in the plane.
    grid: the time grid of all samples of the networks that this stage trains,
      where none is given: a name in GRIDS, or a dict of that name and the
      grid's options; None is uniform, or that of converted weights.
  """

  every: Length | None = None
  schedules: Mapping[str, Length] = dataclasses.field(default_factory=dict)
  dataset: Dataset | None = None
  validation: Dataset | None = None
  reference: str | None = None
  batch_size: int = 599
  features: Features | None = None
  grid: str | dict[str, Any] | None = None

  def __post_init__(self) -> None:
    for every in (self.every, *self.schedules.values()):
      check_every(every)
    if self.batch_size < 1:
      raise ValueError(f'batch_size = {self.batch_size} must be at least 1')


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Raises ValueError for a value that is not among the choices."""
  if value not in choices:
    raise ValueError(
      f'{name} = {value!r} does not exist; {suggest(value, choices)}'
    )


def check_every(every: Length | None) -> None:
  """Raises ValueError for an interval of no step; None means never."""
  if every is not None and every.to_steps(1, 1) < 1:
    raise ValueError(f'every = {every} must be at least one step')
