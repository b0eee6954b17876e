"""The DiT of `networks/dit.py`, without text and dropout."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdistill.against_torch.layers import Scalars, TimePair, attend


class DiT(nn.Module):
  """u(x_t, t, s, cond) of [b, c, h, w].

  Args:
    shape: of an example, (h, w, c).
    num_classes: 0 without labels.
    patch: height and width of a patch.
    width: of a token.
    depth: number of blocks.
    heads: of attention.
    mlp_ratio: width of a hidden layer over that of a token.
    max_frequency: of the embeddings.
    scalars: names of scalar conditions.
  """

  def __init__(
    self,
    shape: Sequence[int],
    num_classes: int,
    *,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    max_frequency: float,
    scalars: Sequence[str] = (),
  ):
    super().__init__()
    height, across, channels = shape
    self.patch, self.grid = patch, (height // patch, across // patch)
    size = patch * patch * channels
    tokens = self.grid[0] * self.grid[1]
    self.position = nn.Parameter(torch.zeros(tokens, width))
    self.times = TimePair(width, max_frequency)
    self.label = nn.Embedding(num_classes + 1, width) if num_classes else None
    self.scalars = Scalars(scalars, width, max_frequency) if scalars else None
    self.first = nn.Linear(size, width)
    hidden = int(width * mlp_ratio)
    self.blocks = nn.ModuleList(
      Block(width, heads, hidden) for _ in range(depth)
    )
    self.modulation = nn.Linear(width, 2 * width)
    self.last = nn.Linear(width, size)

  def forward(
    self,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    cond: Mapping[str, Tensor],
    *,
    plain: bool = False,
  ) -> Tensor:
    """`plain`: see `attend`."""
    e = self.times(t, s)
    if self.label is not None:
      e = e + self.label(cond['label'])
    if self.scalars is not None:
      e = e + self.scalars(cond)
    e = functional.silu(e)
    h = self.first(self.patchify(x_t)) + self.position
    for block in self.blocks:
      h = block(h, e, plain)
    shift, scale = self.modulation(e)[:, None].chunk(2, dim=-1)
    return self.unpatchify(self.last(modulate(h, shift, scale)))

  def patchify(self, x: Tensor) -> Tensor:
    """[b, c, h, w] -> [b, n, p p c]."""
    (h, w), p = self.grid, self.patch
    x = x.reshape(len(x), -1, h, p, w, p).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(len(x), h * w, -1)

  def unpatchify(self, x: Tensor) -> Tensor:
    (h, w), p = self.grid, self.patch
    x = x.reshape(len(x), h, w, p, p, -1).permute(0, 5, 1, 3, 2, 4)
    return x.reshape(len(x), -1, h * p, w * p)


class Block(nn.Module):
  """Attention and a hidden layer, each shifted, scaled and gated by e."""

  def __init__(self, width: int, heads: int, hidden: int):
    super().__init__()
    self.heads = heads
    self.modulation = nn.Linear(width, 6 * width)
    self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
    self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

  def forward(self, h: Tensor, e: Tensor, plain: bool) -> Tensor:
    modulation = self.modulation(e)[:, None].chunk(6, dim=-1)
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
    h = h + gate_a * self.attend(modulate(h, shift_a, scale_a), plain)
    m = self.up(modulate(h, shift_m, scale_m))
    return h + gate_m * self.down(functional.gelu(m, approximate='tanh'))

  def attend(self, h: Tensor, plain: bool) -> Tensor:
    b, n, width = h.shape
    qkv = self.qkv(h).reshape(b, n, self.heads, 3, width // self.heads)
    q, k, v = qkv.permute(3, 0, 2, 1, 4)
    a = attend(q, k, v, plain=plain).transpose(1, 2)
    return self.out(a.reshape(b, n, width))


def modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
  h = functional.layer_norm(h, h.shape[-1:], eps=1e-6)
  return h * (1 + scale) + shift
