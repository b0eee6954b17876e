"""What a config may say of a stage that makes pairs, with `job: 'pairs'`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flowdistill.config.sections import Dataset, Hosts, Origin
from flowdistill.flow.noise import SEEDS

HOSTS = Hosts()
DIRECTIONS = ('from_noise', 'from_data', 'random')


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairStage:
  """A stage that pairs data with noise, for the stages that learn from them.

  Attributes:
    job: what tells it from one that trains.
    dataset: of the images that are paired, and of the classes.
    teacher: whose flow pairs them; a random pairing has none.
    direction: 'from_noise', noise and what the flow makes of it; 'from_data',
      images and the noise that the flow goes back to; 'random', images and any
      noise.
    count: how many pairs.
    seed: of the noise, in [0, 2³²).
    sampler: by name.
    nfe: network calls for a pair; None for a sampler that chooses its steps.
    options: of the sampler, `grid` and `guidance`.
    batch_size: of the network's calls, over all devices of a host.
    shard_size: pairs in a file: what is lost if it is interrupted.
    hosts: see there.
  """

  job: str = 'pairs'
  dataset: Dataset
  teacher: Origin | None = None
  direction: str = 'from_noise'
  count: int = 50_000
  seed: int = 0
  sampler: str = 'rk45'
  nfe: int | None = None
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  batch_size: int = 512
  shard_size: int = 4096
  hosts: Hosts = HOSTS

  def __post_init__(self) -> None:
    for name in ('count', 'batch_size', 'shard_size'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} = {getattr(self, name)} must be at least 1')
    if not 0 <= self.seed < SEEDS:
      raise ValueError(f'seed = {self.seed} must lie in [0, 2**32)')
    if self.direction not in DIRECTIONS:
      choices = ', '.join(DIRECTIONS)
      raise ValueError(f'direction = {self.direction!r} must be of {choices}')
    if (self.teacher is None) != (self.direction == 'random'):
      raise ValueError(
        "teacher: a flow pairs 'from_noise' and 'from_data', and none does "
        f'at random; direction = {self.direction!r}, and teacher = '
        f'{self.teacher and self.teacher.source!r}'
      )

  @property
  def shards(self) -> list[int]:
    """How many pairs each shard has."""
    starts = range(0, self.count, self.shard_size)
    return [min(self.shard_size, self.count - start) for start in starts]
