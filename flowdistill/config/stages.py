"""The keys of a stage in a config, by its kind."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from flowdistill.config.bind import Spec
from flowdistill.config.protocols import (
  Dataset,
  EmaKind,
  Evaluator,
  Network,
  Space,
  TextEncoder,
)
from flowdistill.config.run_sections import (
  Checkpointing,
  EmaSnapshots,
  Hosts,
  Logging,
  MeshAxes,
)
from flowdistill.config.sections import (
  PIXELS,
  STUDENT,
  Evaluation,
  Lora,
  Optim,
  Reference,
  Train,
)
from flowdistill.flow.noise import SEEDS, check_seed
from flowdistill.objectives.roles import Objective
from flowdistill.training.lengths import Length
from flowdistill.training.state import MAIN

TEACHER = 'teacher'
DIRECTIONS = ('from_noise', 'from_data', 'random')
MEASURING = ('every', 'features', 'dataset', 'validation', 'reference')
FEATURES = ('validation', 'reference')
"""Keys of `evaluation` for evaluators alone, and for those with features."""
LATENT_DTYPES = ('float32', 'float16')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner:
  """A network that is trained in a stage.

  Attributes:
    network, objective: by name, with their options.
    optim: see there.
    ema: name -> EMA weights that are tracked; `main` is the one that is
      sampled.
    init_from: source of the first weights; None is a fresh initialisation.
    lora: its low-rank factors learn, and the weights of `init_from` are frozen;
      None trains all weights.
    every: steps from one update to the next.
    start: when it begins to learn; until then it keeps its first weights, and
      an objective such as `adversarial` disregards it.
  """

  network: Network
  objective: Objective
  optim: Optim = Optim()
  ema: Mapping[str, EmaKind] = dataclasses.field(default_factory=dict)
  init_from: Reference | None = None
  lora: Lora | None = None
  every: int = 1
  start: Length = Length(steps=0)

  def __post_init__(self) -> None:
    check_ema(self.ema)
    check_base(self.lora, self.init_from)
    if self.every < 1:
      raise ValueError(f'every = {self.every} must be at least 1')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainStage:
  """A stage that trains networks.

  Attributes:
    job: its kind, 'train'.
    seed: of parameters, data order and noise, in [0, 2³²).
    dataset, network, objective: by name, with their options.
    space: the encoding of images for the networks, by name.
    optim, train, evaluation, checkpoint, log, mesh, hosts: see their sections.
    ema: name -> EMA weights of the student; `main` is sampled.
    ema_snapshots: see there.
    frozen: role -> the weights of a frozen network, such as `teacher`;
      `perceptual` is read from a file of LPIPS weights, and `features` has
      the name of a space with features that ship, 'shapes_kl'.
    roles: name -> another network that is trained beside the student.
    init_from: source of the student's first weights; None is a fresh
      initialisation.
    lora: the student's low-rank factors learn, and the weights of `init_from`
      are frozen; None trains all weights.
    resume: folder of a stage whose whole state is restored at the start.
    pairs: 'stage:NAME' or a folder of pairs, which replace the examples of the
      data set in training, but not in evaluators.
    evaluators: any name -> evaluator by name, with its options.
  """

  job: str = 'train'
  dataset: Dataset
  space: Space = PIXELS
  network: Network
  objective: Objective
  train: Train
  seed: int = 0
  optim: Optim = Optim()
  ema: Mapping[str, EmaKind] = dataclasses.field(default_factory=dict)
  ema_snapshots: EmaSnapshots = EmaSnapshots()
  frozen: Mapping[str, Reference] = dataclasses.field(default_factory=dict)
  roles: Mapping[str, Learner] = dataclasses.field(default_factory=dict)
  init_from: Reference | None = None
  lora: Lora | None = None
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
    check_ema(self.ema)
    check_base(self.lora, self.init_from)
    for name in self.roles:
      if name == STUDENT or name in self.frozen:
        raise ValueError(
          f'roles = {list(self.roles)} must not contain {name!r}, the name of '
          'the student or of a frozen network'
        )

  @staticmethod
  def idle(spec: Spec) -> list[str]:
    """The keys without effect in a resolved stage; see `config/idle.py`."""
    section = spec['evaluation']
    scheduled = section['every'] is not None or section['schedules']
    measured, reference = spec['evaluators'], section['features'] is not None
    powers = [e for e in spec['ema'].values() if e['name'] == 'power']
    return [
      *(f'evaluation.{key}' for key in MEASURING if not measured),
      *(f'evaluation.{key}' for key in FEATURES if not reference),
      *(['checkpoint.best'] if not (measured and scheduled) else []),
      *(['ema_snapshots'] if not powers and not spec['roles'] else []),
      *(['lora'] if spec['init_from'] is None else []),
    ]

  @property
  def learners(self) -> dict[str, Learner]:
    """The networks that are trained, the student first."""
    student = Learner(
      network=self.network,
      objective=self.objective,
      optim=self.optim,
      ema=self.ema,
      init_from=self.init_from,
      lora=self.lora,
    )
    return {STUDENT: student, **self.roles}

  def key_of(self, role: str) -> str:
    """The key of a frozen role's reference."""
    return f'frozen.{role}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairStage:
  """A stage that makes pairs of data and noise, on which later stages train.

  Attributes:
    job: its kind, 'pairs'.
    dataset: the source of the examples and of their conditions.
    space: the encoding of images for the networks, by name.
    teacher: the network whose flow connects the pairs; None for 'random'.
    guides: role -> another network, which the guidance of `options` leads away
      from, as with {'scale': 1.5, 'against': 'weak'}.
    direction: 'from_noise' (noise and the sample drawn from it), 'from_data'
      (images and their encoding as noise) or 'random' (images and independent
      noise).
    count: how many pairs.
    seed: of the noise, in [0, 2³²).
    sampler: by name.
    nfe: network calls for a pair; None for an adaptive sampler.
    options: of the sampler, `grid` and `guidance`.
    batch_size: of the network's calls, over all devices of a host.
    shard_size: pairs in a file; an interruption loses at most one file.
    hosts: see there.
  """

  job: str = 'pairs'
  dataset: Dataset
  space: Space = PIXELS
  teacher: Reference | None = None
  guides: Mapping[str, Reference] = dataclasses.field(default_factory=dict)
  direction: str = 'from_noise'
  count: int = 50_000
  seed: int = 0
  sampler: str = 'rk45'
  nfe: int | None = None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  batch_size: int = 512
  shard_size: int = 4096
  hosts: Hosts = Hosts()

  def __post_init__(self) -> None:
    for name in ('count', 'batch_size', 'shard_size'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} = {getattr(self, name)} must be at least 1')
    check_seed(self.seed)
    if self.count > SEEDS:
      raise ValueError(f'count = {self.count} must be at most 2**32')
    if self.direction not in DIRECTIONS:
      choices = ', '.join(DIRECTIONS)
      raise ValueError(f'direction = {self.direction!r} must be in {choices}')
    if (self.teacher is None) != (self.direction == 'random'):
      raise ValueError(
        f'teacher = {self.teacher and self.teacher.source!r} must be '
        f'{"None" if self.teacher else "set"} for direction = '
        f'{self.direction!r}'
      )
    if TEACHER in self.guides:
      raise ValueError(
        f'guides = {list(self.guides)} must not contain {TEACHER!r}, the name '
        'of the network that they guide'
      )

  @staticmethod
  def idle(spec: Spec) -> list[str]:
    """The keys without effect in a resolved stage: none."""
    del spec
    return []

  @property
  def learners(self) -> dict[str, Learner]:
    """The networks that are trained: none."""
    return {}

  @property
  def frozen(self) -> dict[str, Reference]:
    """The teacher, if there is one, and what guides it."""
    teacher = {} if self.teacher is None else {TEACHER: self.teacher}
    return {**teacher, **self.guides}

  def key_of(self, role: str) -> str:
    """The key of a frozen role's reference."""
    return f'guides.{role}' if role in self.guides else role


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeStage:
  """A stage that writes the latents of images, or their encoded captions.

  The data set `latents` reads the first, the text `encoded` the second.

  Attributes:
    job: its kind, 'encode'.
    dataset: the images.
    space: their encoding, by name, such as the autoencoder `kl`.
    text_encoder: what encodes their captions, in place of the images.
    sample: whether one sample of each image's latents is stored, in place of
      their mean and standard deviation.
    flips: whether the mirrored images are encoded too.
    seed: of the samples, in [0, 2³²).
    dtype: of what is stored, 'float32' or 'float16'.
    shard_size: images in a file, or captions; an interruption loses at most
      one file.
    hosts: see there.
  """

  job: str = 'encode'
  dataset: Dataset
  space: Space = PIXELS
  text_encoder: TextEncoder | None = None
  sample: bool = False
  flips: bool = False
  seed: int = 0
  dtype: str = 'float32'
  shard_size: int = 4096
  hosts: Hosts = Hosts()
  learners: ClassVar[dict[str, Learner]] = {}
  frozen: ClassVar[dict[str, Reference]] = {}

  def __post_init__(self) -> None:
    check_seed(self.seed)
    if self.shard_size < 1:
      raise ValueError(f'shard_size = {self.shard_size} must be at least 1')
    if self.dtype not in LATENT_DTYPES:
      choices = ' or '.join(map(repr, LATENT_DTYPES))
      raise ValueError(f'dtype = {self.dtype!r} must be {choices}')
    if self.text_encoder is not None:
      for name in ('sample', 'flips'):
        if getattr(self, name):
          raise ValueError(f'{name} = True has no effect on captions')
    if self.seed and not self.sample:
      raise ValueError(f'seed = {self.seed} has no effect without sample')

  @staticmethod
  def idle(spec: Spec) -> list[str]:
    """The keys without effect in a resolved stage; see `config/idle.py`."""
    of_images = ['space', 'sample', 'flips']
    idle = of_images if spec['text_encoder'] is not None else []
    return idle if spec['sample'] else [*idle, 'seed']


def check_base(lora: Lora | None, init_from: Reference | None) -> None:
  """Raises ValueError for a LoRA without the weights that it adapts."""
  if lora is not None and init_from is None:
    raise ValueError(
      "init_from = None must be weights, such as 'stage:NAME', with lora: "
      'they are the base that it adapts'
    )


def check_ema(emas: Mapping[str, Any]) -> None:
  """Raises ValueError unless one of several EMAs is `main`."""
  if emas and MAIN not in emas:
    raise ValueError(
      f'ema = {list(emas)} must contain {MAIN!r}, the EMA that is sampled'
    )
