"""EDM2 as in `networks/edm2.py`, without filters and dropout."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowdistill.against_torch.layers import Scalars, TimeEmbedding, attend

LABEL_BALANCE, BALANCE = 0.5, 0.3
LARGEST, EPS, SILU = 256.0, 1e-4, 0.596
LOGVAR = 128
SIGMAS = 0.002, 80.0


class EDM2(nn.Module):
  """u(x_t, t, s, cond) of [b, c, h, w], at t > 0.

  Args:
    shape: of an example, (h, w, c).
    num_classes: 0 without labels.
    width: base number of channels.
    res_blocks: of each level on the way down.
    ch_mult: channels of each level over width.
    attention: heights of the levels that have it.
    head_channels: of an attention head.
    sigma_data: standard deviation of the data.
    time: 'edm' or 'linear'.
    max_frequency: of the embedding of s.
    scalars: names of scalar conditions.
  """

  def __init__(
    self,
    shape: Sequence[int],
    num_classes: int,
    *,
    width: int,
    res_blocks: int,
    ch_mult: Sequence[int],
    attention: Sequence[int],
    head_channels: int,
    sigma_data: float,
    time: str,
    max_frequency: float,
    scalars: Sequence[str] = (),
  ):
    super().__init__()
    self.sigma_data, self.time, self.num_classes = sigma_data, time, num_classes
    widths, channels = [width * m for m in ch_mult], shape[-1]
    e = max(widths)
    self.fourier, self.noise = Fourier(widths[0]), Linear(widths[0], e)
    self.label = (
      nn.ModuleDict({'linear': Linear(num_classes, e)}) if num_classes else None
    )
    self.of_s = TimeEmbedding(e, max_frequency)
    self.scalars = Scalars(scalars, e, max_frequency) if scalars else None
    self.first = Conv(channels + 1, widths[0])
    attend = [shape[0] >> i in attention for i in range(len(widths))]
    self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
    self.make_blocks(widths, res_blocks, attend, e, head_channels)
    self.last = Conv(widths[0], channels)
    self.gain = nn.Parameter(torch.zeros(()))
    self.logvar_fourier, self.logvar = Fourier(LOGVAR), Linear(LOGVAR, 1)

  def make_blocks(
    self,
    widths: Sequence[int],
    blocks: int,
    attend: Sequence[bool],
    e: int,
    head: int,
  ) -> None:
    """Fills `enc` and `dec`, in the order in which they run."""

    def make(n_in: int, n_out: int, **options: Any) -> Block:
      return Block(n_in, n_out, e, head, **options)

    n, skips = widths[0], [widths[0]]
    for i, width in enumerate(widths):
      if i:
        self.enc[f'level{i}_down'] = make(n, n, down=True, resize='halve')
        skips.append(n)
      for k in range(blocks):
        block = make(n, width, down=True, attention=attend[i])
        self.enc[f'level{i}_block{k}'] = block
        skips.append(n := width)
    for i, width in reversed(list(enumerate(widths))):
      if i == len(widths) - 1:
        self.dec[f'level{i}_in0'] = make(n, n, down=False, attention=True)
        self.dec[f'level{i}_in1'] = make(n, n, down=False)
      else:
        self.dec[f'level{i}_up'] = make(n, n, down=False, resize='double')
      for k in range(blocks + 1):
        block = make(n + skips.pop(), width, down=False, attention=attend[i])
        self.dec[f'level{i}_block{k}'], n = block, width

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
    e = self.embedding(t, s, cond)
    variance = self.sigma_data**2
    t = t[:, None, None, None]
    c = (t**2 + variance * (1 - t) ** 2).rsqrt()
    h = c * x_t
    h = self.first(torch.cat([h, torch.ones_like(h[:, :1])], dim=1))
    skips = [h]
    for block in self.enc.values():
      skips.append(h := block(h, e, plain))
    for name, block in self.dec.items():
      h = mp_cat(h, skips.pop()) if 'block' in name else h
      h = block(h, e, plain)
    h = self.last(h, self.gain)
    return (t - variance * (1 - t)) * c**2 * x_t - self.sigma_data * c * h

  def embedding(
    self, t: Tensor, s: Tensor, cond: Mapping[str, Tensor]
  ) -> Tensor:
    c = t
    if self.time == 'edm':
      low, high = (sigma / (1 + sigma) for sigma in SIGMAS)
      c = t.clamp(low, high)
      c = (c.log() - torch.log1p(-c)) / 4
    e = self.noise(self.fourier(c))
    if self.label is not None:
      # The null label is the last one, and is dropped.
      classes = functional.one_hot(cond['label'].long(), self.num_classes + 1)
      classes = classes[:, :-1].to(e.dtype) * self.num_classes**0.5
      e = mp_sum(e, self.label['linear'](classes), LABEL_BALANCE)
    e = e + (t - s)[:, None] * self.of_s(s)
    return mp_silu(e if self.scalars is None else e + self.scalars(cond))

  @torch.no_grad()
  def project(self) -> None:
    """Brings the weights back to magnitude 1, after an update."""
    for module in self.modules():
      if isinstance(module, Linear | Conv):
        module.weight.copy_(unit_rows(module.weight))


class Block(nn.Module):
  """Two convolutions, scaled by e in between, then attention or not."""

  def __init__(
    self,
    n_in: int,
    n_out: int,
    embedding: int,
    head: int,
    *,
    down: bool,
    resize: str | None = None,
    attention: bool = False,
  ):
    super().__init__()
    self.down, self.resize = down, resize
    self.conv_in = Conv(n_out if down else n_in, n_out)
    self.scale = Linear(embedding, n_out)
    self.gain = nn.Parameter(torch.zeros(()))
    self.conv_out = Conv(n_out, n_out)
    self.skip = Linear(n_in, n_out) if n_in != n_out else None
    self.attention = Cosine(n_out, head) if attention else None

  def forward(self, h: Tensor, e: Tensor, plain: bool) -> Tensor:
    if self.resize == 'halve':
      h = functional.avg_pool2d(h, 2)
    if self.resize == 'double':
      h = functional.interpolate(h, scale_factor=2, mode='nearest')
    if self.down:
      h = unit(self.skipped(h), 1)
    new = self.conv_in(mp_silu(h))
    scale = self.scale(e, self.gain) + 1
    new = self.conv_out(mp_silu(new * scale[:, :, None, None]))
    h = mp_sum(h if self.down else self.skipped(h), new, BALANCE)
    h = h if self.attention is None else self.attention(h, plain)
    return h.clamp(-LARGEST, LARGEST)

  def skipped(self, h: Tensor) -> Tensor:
    return h if self.skip is None else self.skip(h)


class Cosine(nn.Module):
  """Attention among pixels, with q, k and v of magnitude 1."""

  def __init__(self, channels: int, head: int):
    super().__init__()
    self.heads = max(1, channels // head)
    self.qkv = Linear(channels, 3 * channels)
    self.out = Linear(channels, channels)

  def forward(self, h: Tensor, plain: bool) -> Tensor:
    b, c, *size = h.shape
    qkv = self.qkv(h).reshape(b, self.heads, c // self.heads, 3, -1)
    q, k, v = unit(qkv, 2).permute(3, 0, 1, 4, 2)
    new = attend(q, k, v, plain=plain).transpose(2, 3)
    return mp_sum(h, self.out(new.reshape(b, c, *size)), BALANCE)


class Fourier(nn.Module):
  """√2 cos(frequency c + phase); neither is trained."""

  def __init__(self, size: int):
    super().__init__()
    self.register_buffer('frequencies', torch.zeros(size))
    self.register_buffer('phases', torch.zeros(size))

  def forward(self, c: Tensor) -> Tensor:
    angles = c[:, None] * self.frequencies + self.phases
    return math.sqrt(2) * angles.cos()


class Linear(nn.Module):
  """A product with a weight of magnitude 1, of [b, n] or [b, n, h, w]."""

  def __init__(self, n_in: int, n_out: int):
    super().__init__()
    self.weight = nn.Parameter(torch.zeros(n_out, n_in))

  def forward(self, h: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    weight = scaled(self.weight, gain)
    if h.ndim == 2:
      return functional.linear(h, weight)
    return functional.conv2d(h, weight[:, :, None, None])


class Conv(nn.Module):
  """The same as a convolution of 3 x 3."""

  def __init__(self, n_in: int, n_out: int):
    super().__init__()
    self.weight = nn.Parameter(torch.zeros(n_out, n_in, 3, 3))

  def forward(self, h: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    return functional.conv2d(h, scaled(self.weight, gain), padding=1)


def scaled(weight: Tensor, gain: Tensor | float) -> Tensor:
  return unit_rows(weight) * (gain / math.sqrt(weight[0].numel()))


def unit_rows(weight: Tensor) -> Tensor:
  """The weights of each output at magnitude 1."""
  return unit(weight, tuple(range(1, weight.ndim)))


def unit(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
  """x over its root mean square along some axes."""
  squares = x.square().mean(axes, keepdim=True)
  return x / (EPS + squares.sqrt())


def mp_silu(x: Tensor) -> Tensor:
  return functional.silu(x) / SILU


def mp_sum(a: Tensor, b: Tensor, share: float) -> Tensor:
  return torch.lerp(a, b, share) / math.hypot(1 - share, share)


def mp_cat(a: Tensor, b: Tensor) -> Tensor:
  n, m = a.shape[1], b.shape[1]
  scale = math.sqrt((n + m) / 2)
  return torch.cat([a * (scale / n**0.5), b * (scale / m**0.5)], dim=1)
