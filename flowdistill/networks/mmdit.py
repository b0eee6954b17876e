"""A transformer of text and pictures in joint attention, u(x_t, t, s, cond).

Both kinds of tokens are attended to by both, and each has weights of its own.
Queries and keys are normalised, those of the picture get rotary positions, and
all layers are modulated by times, scalars, label and the pooled text. Without
text it is a transformer of the picture alone.

Source: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution
Image Synthesis" (2024), https://arxiv.org/abs/2403.03206, section 4; the
positions: `rotary.py`, without the absolute ones of that paper.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.dit import check_tokens
from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.mmdit_blocks import JointBlock
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.ranges import check_dropout
from flowdistill.networks.rotary import angles_of
from flowdistill.networks.stack import Stack
from flowdistill.networks.text import (
  NAMES,
  POOLED,
  check_text,
  make_projection,
  make_summary,
  make_text,
  mean_of,
)
from flowdistill.networks.token_layers import (
  modulate,
  on_rows,
  patchify,
  unpatchify,
  zero_linear,
)

Array = jax.Array


class MMDiT(nnx.Module):
  """A transformer of patches and text.

  Args:
    spec: of the data, of shape (h, w, c); its text: see `text.py`.
    patch: height and width of a patch; it divides h and w.
    width: of a token; `heads` divides it into multiples of 4.
    depth: number of blocks; the last has no text of its own, as none is asked
      for after it.
    heads: number of attention heads.
    mlp_ratio: width of a block's hidden layer over that of a token.
    dropout: dropout rate after attention and hidden layer, in [0, 1).
    text_depth: layers of a transformer of the text alone; None is 2 for
      `tokens`, and 0 for `text`.
    null: what no text is: 'empty', nothing is attended to; 'learnt', a token.
    theta: of the rotary positions.
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
    patch: int = 2,
    width: int = 64,
    depth: int = 3,
    heads: int = 4,
    mlp_ratio: float = 4.0,
    dropout: float = 0.0,
    text_depth: int | None = None,
    null: str = 'empty',
    theta: float = 100.0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'mmdit', NAMES)
    check_text(spec)
    check_tokens(spec, 'an MMDiT', patch, width, depth, heads, mlp_ratio)
    check_dropout(dropout)
    if width // heads % 4:
      raise ValueError(
        f'heads = {heads} of width = {width} must have a multiple of 4 '
        'channels each, for rotary positions of rows and columns'
      )
    if not theta > 0:
      raise ValueError(f'theta = {theta} must be above 0')
    channels = spec.shape[-1]
    self.patch, self.size, self.theta = patch, width // heads, theta
    size = patch * patch * channels
    self.times = TimePair(width, max_frequency=options.max_frequency, rngs=rngs)
    self.label = make_label(spec.num_classes, width, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)
    self.pooled = make_projection(spec, POOLED, width, rngs=rngs)
    self.text = make_text(
      spec, width, heads, depth=text_depth, null=null, options=options,
      rngs=rngs,
    )  # fmt: skip
    length = 0 if self.text is None else self.text.length
    self.summary = make_summary(width, width, self.text, rngs=rngs)
    self.first = nnx.Linear(size, width, rngs=rngs)
    hidden = int(width * mlp_ratio)

    def blocks(number: int, *, last: bool) -> Stack:
      return Stack(
        lambda rngs: JointBlock(
          width, heads, hidden, dropout, length=length, last=last,
          dtype=options.products, form=options.attention_form, rngs=rngs,
        ),
        number,
        remat=options.remat,
        rngs=rngs,
      )  # fmt: skip

    self.blocks = blocks(depth - 1, last=False) if depth > 1 else None
    self.end = blocks(1, last=True)
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    self.last = zero_linear(width, size, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s [b] and `cond` [b, ...] -> [b, h, w, c].

    h and w may be other ones than in the spec: no parameter depends on them.
    """
    grid = x_t.shape[1] // self.patch, x_t.shape[2] // self.patch
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    if self.pooled is not None:
      e = e + self.pooled(cond[POOLED])
    h, mask = on_rows(self.first, patchify(x_t, self.patch)), None
    tokens = h.shape[1]
    if self.text is not None and self.summary is not None:
      text, real = self.text(cond)
      e = e + self.summary(mean_of(text, real))
      h = jnp.concatenate([text.astype(h.dtype), h], axis=1)
      mask = jnp.concatenate([real, jnp.ones((len(h), tokens), bool)], axis=1)
    e = nnx.silu(e)
    angles = angles_of(grid, self.size, self.theta)
    keys = (None, None) if key is None else tuple(jax.random.split(key))
    if self.blocks is not None:
      h = self.blocks(h, e, mask, angles, key=keys[0])
    h = self.end(h, e, mask, angles, key=keys[1])[:, -tokens:]
    shift, scale = jnp.split(self.modulation(e)[:, None], 2, axis=-1)
    h = on_rows(self.last, modulate(h, shift, scale))
    return unpatchify(h, grid, self.patch)
