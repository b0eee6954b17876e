"""How a model of PyTorch runs."""

import dataclasses
from typing import ClassVar

DTYPES = ('float32', 'bfloat16', 'float16')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
  """How a model runs.

  Attributes:
    dtype: in which it computes: 'float32', 'bfloat16' or 'float16'.
    device: of PyTorch, such as 'cuda:1'; '' is the first GPU, or the CPU.
    batch_size: captions at once.
  """

  flat: ClassVar[bool] = True  # its fields are options of an encoder
  dtype: str = 'float32'
  device: str = ''
  batch_size: int = 16

  def __post_init__(self) -> None:
    if self.dtype not in DTYPES:
      choices = ' or '.join(map(repr, DTYPES))
      raise ValueError(f'dtype = {self.dtype!r} must be {choices}')
    if self.batch_size < 1:
      raise ValueError(f'batch_size = {self.batch_size} must be at least 1')


PLAIN = Running()
