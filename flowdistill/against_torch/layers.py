"""Embeddings and attention, as in `flowdistill/networks/`."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class TimeEmbedding(nn.Module):
  """cos and sin of t [b], and two layers -> [b, width]."""

  def __init__(self, width: int, max_frequency: float):
    super().__init__()
    exponents = torch.linspace(0, 1, width // 2)
    self.register_buffer(
      'frequencies', max_frequency**exponents, persistent=False
    )
    self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

  def forward(self, t: Tensor) -> Tensor:
    angles = t[:, None] * self.frequencies
    features = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return self.second(functional.silu(self.first(features)))


class TimePair(nn.Module):
  """e₁(t) + (t − s) e₂(s), [b, width]."""

  def __init__(self, width: int, max_frequency: float):
    super().__init__()
    self.of_t = TimeEmbedding(width, max_frequency)
    self.of_s = TimeEmbedding(width, max_frequency)

  def forward(self, t: Tensor, s: Tensor) -> Tensor:
    return self.of_t(t) + (t - s)[:, None] * self.of_s(s)


class Scalars(nn.Module):
  """The sum of the embeddings of scalar conditions, [b, width]."""

  def __init__(self, names: Sequence[str], width: int, max_frequency: float):
    super().__init__()
    self.of = nn.ModuleDict(
      {name: TimeEmbedding(width, max_frequency) for name in names}
    )

  def forward(self, cond: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([f(cond[name]) for name, f in self.of.items()]).sum(0)


def attend(q: Tensor, k: Tensor, v: Tensor, *, plain: bool) -> Tensor:
  """softmax(q kᵀ / √c) v of [..., n, c]; `plain` if it is under a jvp.

  PyTorch's own attention has no forward derivative.
  """
  if not plain:
    return functional.scaled_dot_product_attention(q, k, v)
  logits = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
  return logits.softmax(-1) @ v
