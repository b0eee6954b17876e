"""The objectives `rectified_flow` and `ayf_emd`, of times and noise as drawn.

A network is u(x_t, t, s, cond) of images [b, c, h, w].
"""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Network = Callable[..., Tensor]


@dataclasses.dataclass(frozen=True)
class Draws:
  """What an objective draws for a step.

  Attributes:
    x0: data [b, c, h, w].
    x1: noise, likewise.
    t: start of a jump [b].
    s: its end [b].
    weight: of each example [b].
    r: of the warm-up, a scalar.
    cond: name -> condition [b].
  """

  x0: Tensor
  x1: Tensor
  t: Tensor
  s: Tensor
  weight: Tensor
  r: Tensor
  cond: Mapping[str, Tensor]

  @property
  def x_t(self) -> Tensor:
    """(1 − t) x0 + t x1."""
    t = wide(self.t)
    return (1 - t) * self.x0 + t * self.x1


def rectified_flow(
  student: Network, teacher: Network | None, draws: Draws
) -> Tensor:
  """Loss [b], without a teacher."""
  del teacher
  v = student(draws.x_t, draws.t, draws.t, draws.cond)
  error = v - (draws.x1 - draws.x0)
  return draws.weight * error.square().sum((1, 2, 3))


def ayf_emd(
  student: Network,
  teacher: Network | None,
  draws: Draws,
  *,
  c: float | None = 0.1,
) -> Tensor:
  """Loss [b]; c is that of the normalisation of tangents."""
  assert teacher is not None
  x_t, t, s, cond = draws.x_t, draws.t, draws.s, draws.cond
  with torch.no_grad():
    v = teacher(x_t, t, t, cond)
  # A parameter is closed over: its gradient passes through the jvp.
  F, dF_dt = torch.func.jvp(
    lambda x, t: student(x, t, s, cond, plain=True),
    (x_t, t),
    (v, torch.ones_like(t)),
  )
  with torch.no_grad():
    g = (F - v) + draws.r * wide(t - s) * dF_dt
    if c is not None:
      g = g / (wide(g.square().sum((1, 2, 3)).sqrt()) + c)
    target = F - g
  return draws.weight * (F - target).square().sum((1, 2, 3))


def wide(t: Tensor) -> Tensor:
  """[b] -> [b, 1, 1, 1]."""
  return t[:, None, None, None]
