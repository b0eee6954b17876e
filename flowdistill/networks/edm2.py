"""EDM2 with a second time, u(x_t, t, s, cond) of images or latents.

A U-Net of magnitude-preserving layers without biases and norms of groups, whose
output is a velocity by EDM's preconditioning (see `edm2_times.py`): the data
must have the standard deviation `sigma_data`. With `time='edm'` it is the
published teacher, whose weights `convert/edm2.py` reads. A student may start
from them with `time='linear'`, which embeds t itself, and whose derivative in
time is bounded; the embedding must then be aligned with the teacher's first.

Source: Karras et al., "Analyzing and Improving the Training Dynamics of
Diffusion Models" (2023), https://arxiv.org/abs/2312.02696; `time='linear'` as
Sabour et al., "Align Your Flow" (2025), https://arxiv.org/abs/2506.14603.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2_blocks import Block, BlockConfig
from flowdistill.networks.edm2_layers import (
  MPConv,
  MPFourier,
  MPLinear,
  forced,
  mp_cat,
  mp_silu,
  mp_sum,
)
from flowdistill.networks.edm2_times import TIMES, coefficients, noise_level
from flowdistill.networks.embeddings import TimeEmbedding, make_scalars
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.precision import upcast
from flowdistill.networks.ranges import (
  check_choices,
  check_dropout,
  check_sizes,
)
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_trunk import attentive, heights

Array = jax.Array
LABEL_BALANCE = 0.5  # share of the label in the embedding
LOGVAR = 128  # features of the uncertainty
SIZES = {
  'xxs': {'width': 64, 'dropout': 0.0},
  'xs': {'width': 128, 'dropout': 0.0},
  's': {'width': 192, 'dropout': 0.0},
  'm': {'width': 256, 'dropout': 0.1},
  'l': {'width': 320, 'dropout': 0.1},
  'xl': {'width': 384, 'dropout': 0.1},
  'xxl': {'width': 448, 'dropout': 0.1},
}
"""Options of the published networks, of 64 x 64 pixels, and of latents of
64 x 64 x 4 for ImageNet at 512 x 512; all others have their defaults. XXS is in
their code, and not in the paper."""


class EDM2(nnx.Module):
  """A U-Net of images; the null label adds nothing to the embedding.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    width: base number of channels, see `SIZES`.
    res_blocks: of each level on the way down; on the way up one more.
    ch_mult: channels of each level over width, from the largest height down.
    attention: heights of the levels where it follows each block; the middle
      always has it.
    head_channels: of an attention head; layers with fewer have one head.
    dropout: dropout rate in each block, in [0, 1).
    fir: whether down- and upsampling filter.
    sigma_data: standard deviation of the data, above 0.
    time: what is embedded of t: 'edm', ln(σ) / 4 as in the published weights,
      or 'linear', t itself.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or the spec has a condition that
      the network does not take.
  """

  signature: ClassVar[str] = 'average'

  def __init__(
    self,
    spec: DataSpec,
    *,
    width: int = 192,
    res_blocks: int = 3,
    ch_mult: tuple[int, ...] = (1, 2, 3, 4),
    attention: tuple[int, ...] = (16, 8),
    head_channels: int = 64,
    dropout: float = 0.0,
    fir: bool = False,
    sigma_data: float = 0.5,
    time: str = 'edm',
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'edm2')
    check_sizes(width=width, res_blocks=res_blocks, head_channels=head_channels)
    check_dropout(dropout)
    check_choices(time=(time, TIMES))
    if not 0 < sigma_data < float('inf'):
      raise ValueError(f'sigma_data = {sigma_data} must be above 0')
    attend = attentive(heights(spec.shape, ch_mult), attention)
    self.remat, self.time, self.sigma_data = options.remat, time, sigma_data
    widths, channels = [width * m for m in ch_mult], spec.shape[-1]
    e = max(widths)
    self.fourier = MPFourier(widths[0], rngs=rngs)
    self.noise = MPLinear(widths[0], e, rngs=rngs)
    self.label = (
      Label(spec.num_classes, e, rngs=rngs) if spec.num_classes else None
    )
    self.of_s = TimeEmbedding(
      e, max_frequency=options.max_frequency, zero=True, rngs=rngs
    )
    self.scalars = make_scalars(options, e, rngs=rngs)
    config = BlockConfig(
      e,
      dropout,
      head_channels,
      fir,
      options.products,
      options.attention_form,
    )
    self.first = MPConv(channels + 1, widths[0], rngs=rngs)
    self.enc, self.dec, self.order = make_blocks(
      widths, config, blocks=res_blocks, attend=attend, rngs=rngs
    )
    self.last = MPConv(widths[0], channels, rngs=rngs)
    self.gain = nnx.Param(jnp.zeros(()))
    self.logvar_fourier = MPFourier(LOGVAR, rngs=rngs)
    self.logvar = MPLinear(LOGVAR, 1, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s, `cond['label']`, scalars [b] -> [b, h, w, c]."""
    x_t = upcast(x_t)
    run = make_run(self.embedding(t, s, cond), key, self.remat)
    a, b, c = (
      each[:, None, None, None] for each in coefficients(t, self.sigma_data)
    )
    h = c * x_t
    h = self.first(jnp.concatenate([h, jnp.ones_like(h[..., :1])], axis=-1))
    return a * x_t - b * self.last(self.trunk(h, run), self.gain[...])

  def embedding(self, t: Array, s: Array, cond: Mapping[str, Array]) -> Array:
    """Of times, label and scalars, [b, e]; s starts without effect."""
    t, s = upcast(t), upcast(s)
    e = self.noise(self.fourier(noise_level(t, self.time)))
    if self.label is not None:
      e = mp_sum(e, self.label(cond['label']), LABEL_BALANCE)
    e = e + (t - s)[:, None] * self.of_s(s)
    return mp_silu(e if self.scalars is None else e + self.scalars(cond))

  def trunk(self, h: Array, run: Callable[..., Array]) -> Array:
    """The way down and up of [b, h, w, width]."""
    skips, (down, up) = [h], self.order
    for name in down:
      skips.append(h := run(self.enc[name], h))
    for name in up:
      h = mp_cat(h, skips.pop()) if 'block' in name else h
      h = run(self.dec[name], h)
    return h

  def log_variance(self, t: Array) -> Array:
    """The uncertainty u(t) [b] of the loss at t [b], equation 21."""
    c = noise_level(t, self.time)
    return self.logvar(self.logvar_fourier(c))[:, 0]

  @staticmethod
  def project(params: Any, before: Any) -> Any:
    """The parameters after an update, with their weights at magnitude 1."""
    return forced(params, before)


class Label(nnx.Module):
  """A vector of each class, of magnitude 1, and 0 for any other label."""

  def __init__(self, num_classes: int, width: int, *, rngs: nnx.Rngs):
    self.num_classes = num_classes
    self.linear = MPLinear(num_classes, width, rngs=rngs)

  def __call__(self, label: Array) -> Array:
    """[b] -> [b, width]."""
    one_hot = jax.nn.one_hot(label, self.num_classes)
    return self.linear(one_hot * self.num_classes**0.5)


def make_blocks(
  widths: list[int],
  config: BlockConfig,
  *,
  blocks: int,
  attend: list[bool],
  rngs: nnx.Rngs,
) -> tuple[nnx.Dict, nnx.Dict, tuple[tuple[str, ...], tuple[str, ...]]]:
  """The blocks down and up by names such as 'level1_block0', and their order.

  A block with 'block' in its name on the way up takes the last output of the
  way down that is not yet used.
  """
  enc, dec, n, end = {}, {}, widths[0], len(widths) - 1
  skips = [n]

  def make(n_in: int, n_out: int, **options: Any) -> Block:
    return Block(n_in, n_out, config, rngs=rngs, **options)

  for i, width in enumerate(widths):
    if i:
      enc[f'level{i}_down'] = make(n, n, down=True, resize='halve')
      skips.append(n)
    for k in range(blocks):
      enc[f'level{i}_block{k}'] = make(n, width, down=True, attention=attend[i])
      skips.append(n := width)
  for i, width in reversed(list(enumerate(widths))):
    if i == end:
      dec[f'level{i}_in0'] = make(n, n, down=False, attention=True)
      dec[f'level{i}_in1'] = make(n, n, down=False)
    else:
      dec[f'level{i}_up'] = make(n, n, down=False, resize='double')
    for k in range(blocks + 1):
      dec[f'level{i}_block{k}'] = make(
        n + skips.pop(), width, down=False, attention=attend[i]
      )
      n = width
  return nnx.Dict(enc), nnx.Dict(dec), (tuple(enc), tuple(dec))
