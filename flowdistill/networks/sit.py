"""The published DiT architecture, as SiT and MeanFlow use it, with times t, s.

A transformer of patches with fixed positions, whose blocks are those of `DiT`.
`SIZES` and `patch` name the networks of the papers, such as SiT-XL/2;
`convert/sit.py` reads their weights. With `time='sit'` the network is
−N(x_t, 1 − t): SiT's time is 1 at data, and its velocity x0 − x1.

DiT's own weights predict the noise of a diffusion in 1000 discrete steps, which
end before pure noise: no velocity of the linear path that is finite at t = 1
follows from them, and they are refused.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022),
https://arxiv.org/abs/2212.09748; of the times: `sit_times.py`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks import dit
from flowdistill.networks.embeddings import (
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import (
  check_choices,
  check_dropout,
  check_sizes,
)
from flowdistill.networks.sit_times import KINDS, SPAN, SiTTimes
from flowdistill.networks.stack import Stack
from flowdistill.networks.token_layers import (
  modulate,
  on_rows,
  patchify,
  unpatchify,
  zero_linear,
)

Array = jax.Array
XAVIER = nnx.initializers.xavier_uniform()
SIZES = {
  'S': (384, 12, 6),
  'B': (768, 12, 12),
  'M': (1024, 16, 16),
  'L': (1024, 24, 16),
  'XL': (1152, 28, 16),
}
"""Width, depth and heads of the published networks; M is one of MeanFlow's."""


class SiT(nnx.Module):
  """A transformer of patches, its blocks modulated by times and label.

  Args:
    spec: of the data, of shape (h, w, c).
    size: of the network, a name in `SIZES`.
    patch: height and width of a patch; it divides h and w.
    width: of a token, if it is not that of `size`; 4 and the heads divide it.
    depth: number of blocks, if it is not that of `size`.
    heads: number of attention heads, if it is not that of `size`.
    time: convention of the published weights: 'sit', 'repa' or 'mean_flow'.
    variance: whether there are outputs for a variance, which are not used, as
      in SiT-XL/2 for ImageNet at 256 x 256.
    dropout: dropout rate after attention and hidden layer, in [0, 1); it is 0
      in the papers.
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
    size: str = 'S',
    patch: int = 2,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    time: str = 'sit',
    variance: bool = False,
    dropout: float = 0.0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'sit')
    check_choices(size=(size, tuple(SIZES)), time=(time, KINDS))
    width, depth, heads = (
      preset if own is None else own
      for own, preset in zip((width, depth, heads), SIZES[size], strict=True)
    )
    check_dropout(dropout)
    check_sizes(patch=patch, width=width, depth=depth, heads=heads)
    check_divisible(spec.shape, patch, width, heads)
    height, across, channels = spec.shape
    self.patch, self.channels = patch, channels
    self.grid = (height // patch, across // patch)
    self.sign = -1 if time == 'sit' else 1
    self.position = nnx.Param(jnp.asarray(positions(self.grid, width)))
    self.times = SiTTimes(
      width, kind=time, max_frequency=options.max_frequency, rngs=rngs
    )
    self.label = make_label(spec.num_classes, width, rngs=rngs)
    self.first = Patches(patch, channels, width, rngs=rngs)
    self.blocks = Stack(
      lambda rngs: Block(
        width, heads, 4 * width, dropout, dtype=options.products,
        form=options.attention_form, init=XAVIER, rngs=rngs,
      ),
      depth,
      remat=options.remat,
      rngs=rngs,
    )  # fmt: skip
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    outputs = 2 * channels if variance else channels
    self.last = zero_linear(width, patch * patch * outputs, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s [b] and `cond` [b, ...] -> [b, h, w, c]."""
    e = nnx.silu(
      conditioned(
        self.times(t, s), cond, label=self.label, scalars=self.scalars
      )
    )
    h = self.first(x_t) + jax.lax.stop_gradient(self.position[...])
    h = self.blocks(h, e, None, key=key)
    shift, scale = jnp.split(self.modulation(e)[:, None], 2, axis=-1)
    h = on_rows(self.last, modulate(h, shift, scale))
    u = unpatchify(h, self.grid, self.patch)
    return self.sign * u[..., : self.channels]

  @staticmethod
  def project(params: Any, before: Any) -> Any:
    """The parameters after an update, with the positions as they were."""
    fixed = dict(nnx.to_flat_state(before))
    return nnx.from_flat_state(
      (path, fixed[path] if path == ('position',) else leaf)
      for path, leaf in nnx.to_flat_state(params)
    )


class Block(dit.Block):
  """A block of `DiT` with the published order of q, k and v.

  It does not depend on the number of heads; sharded along `tensor`, q, k and v
  are all-gathered.
  """

  def split(self, qkv: Array) -> Array:
    """[b, n, 3 width] -> q, k, v [3, b, heads, n, width / heads]."""
    b, n, width = qkv.shape
    qkv = qkv.reshape(b, n, 3, self.heads, width // self.heads // 3)
    return jnp.moveaxis(qkv, (2, 3), (0, 2))


class Patches(nnx.Module):
  """A linear layer of each patch, whose kernel is [patch, patch, c, width]."""

  def __init__(self, patch: int, channels: int, width: int, *, rngs: nnx.Rngs):
    matrix = XAVIER(rngs.params(), (patch * patch * channels, width))
    self.kernel = nnx.Param(matrix.reshape(patch, patch, channels, width))
    self.bias = nnx.Param(jnp.zeros(width))

  def __call__(self, x: Array) -> Array:
    """[b, h, w, c] -> [b, tokens, width]."""
    patch, *_, width = self.kernel.shape
    matrix = self.kernel[...].reshape(-1, width)
    return on_rows(lambda h: h @ matrix, patchify(x, patch)) + self.bias[...]


def positions(grid: tuple[int, int], width: int) -> np.ndarray:
  """Of the tokens, row by row, [1, tokens, width]: fixed.

  sin and cos of ω j, then of ω i, for row i and column j, each with width / 4
  frequencies ω = 1 .. 10⁻⁴ without the last.
  """
  frequencies = SPAN ** -np.linspace(0, 1, width // 4, endpoint=False)
  i, j = (place.reshape(-1, 1) * frequencies for place in np.indices(grid))
  parts = [np.sin(j), np.cos(j), np.sin(i), np.cos(i)]
  return np.concatenate(parts, axis=-1)[None].astype(np.float32)


def check_divisible(
  shape: tuple[int, ...], patch: int, width: int, heads: int
) -> None:
  """Raises ValueError unless patches tile the images, and heads the width."""
  if len(shape) != 3:
    raise ValueError(f'a SiT takes images [h, w, c], not {list(shape)}')
  if shape[0] % patch or shape[1] % patch:
    raise ValueError(f'patch = {patch} does not divide {shape[0]} x {shape[1]}')
  for name, parts in {'4': 4, f'heads = {heads}': heads}.items():
    if width % parts:
      raise ValueError(f'{name} does not divide width = {width}')
