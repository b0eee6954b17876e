"""A light U-Net of images with a second time, u(x_t, t, s, cond).

Its layers are those of ADM, but a group norm has eight groups, and the times
are embedded by `TimePair`, whose derivative is bounded: it suits images up to
128 x 128 and training from scratch by objectives that differentiate the network
in time. A text is attended to beside the pixels, and its mean is added to the
embedding.

Source of the layers: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image
Synthesis" (2021), https://arxiv.org/abs/2105.05233; of text in them: Nichol et
al., "GLIDE: Towards Photorealistic Image Generation and Editing with
Text-Guided Diffusion Models" (2021), https://arxiv.org/abs/2112.10741, section
4.1, where the embedding has the last token in place of the mean.
"""

from collections.abc import Mapping
from typing import ClassVar

import jax
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.embeddings import (
  TimePair,
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.precision import upcast
from flowdistill.networks.projector import make_projector, projected
from flowdistill.networks.ranges import check_dropout, check_sizes
from flowdistill.networks.text import (
  NAMES,
  POOLED,
  check_text,
  has_text,
  make_projection,
  make_summary,
  make_text,
  mean_of,
)
from flowdistill.networks.unet_layers import BlockConfig, conv3
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_pyramids import head
from flowdistill.networks.unet_trunk import heights, make_trunk, run_trunk

Array = jax.Array
GROUPS, HEADS = 8, 4  # of norms; of the transformer of a text
TEXT_WIDTH = 128


class UNet(nnx.Module):
  """A U-Net of images.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    width: base number of channels, a multiple of 8.
    ch_mult: channels of each level over width, from the largest height down.
    res_blocks: of each level on the way down; on the way up one more.
    attention: it follows each block at heights up to this; 0 disables it. The
      middle always has it.
    head_channels: of an attention head; layers with fewer have one head.
    text_width: of a token of the text, a multiple of 4; None is 128.
    text_depth: layers of a transformer of the text alone; None is 2 for
      `tokens`, and 0 for `text`.
    null: what no text is: 'empty', nothing is attended to; 'learnt', a token.
    dropout: dropout rate in each block, in [0, 1).
    features: width of the features that a projector makes of what the lowest
      resolution gives to the way up, see `aligned`; 0 is without.
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
    width: int = 32,
    ch_mult: tuple[int, ...] = (1, 2, 2),
    res_blocks: int = 2,
    attention: int = 16,
    head_channels: int = 64,
    text_width: int | None = None,
    text_depth: int | None = None,
    null: str = 'empty',
    dropout: float = 0.0,
    features: int = 0,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    options.check_conditions(spec, 'unet', NAMES)
    check_text(spec)
    check_sizes(width=width, res_blocks=res_blocks, head_channels=head_channels)
    tokens = width_of_text(spec, text_width)
    if width % GROUPS:
      raise ValueError(f'width = {width} must be a multiple of {GROUPS}')
    if attention < 0:
      raise ValueError(f'attention = {attention} must be a height, 0 for none')
    check_dropout(dropout)
    sides = heights(spec.shape, ch_mult)
    self.remat = options.remat
    config = BlockConfig(
      embedding=4 * width,
      kind='adm',
      dropout=dropout,
      dtype=options.products,
      groups=GROUPS,
      head=head_channels,
      attention_form=options.attention_form,
      text=tokens,
    )
    self.times = TimePair(
      4 * width, max_frequency=options.max_frequency, rngs=rngs
    )
    self.label = make_label(spec.num_classes, 4 * width, rngs=rngs)
    self.scalars = make_scalars(options, 4 * width, rngs=rngs)
    self.pooled = make_projection(spec, POOLED, 4 * width, rngs=rngs)
    self.text = make_text(
      spec, tokens, HEADS, depth=text_depth, null=null, options=options,
      rngs=rngs,
    )  # fmt: skip
    self.summary = make_summary(tokens, 4 * width, self.text, rngs=rngs)
    widths = [width * multiple for multiple in ch_mult]
    channels = spec.shape[-1]
    self.first = conv3(channels, widths[0], rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      widths,
      config,
      first=widths[0],
      image=channels,
      blocks=res_blocks,
      attend=[side <= attention for side in sides],
      rngs=rngs,
    )
    self.last = head(widths[0], channels, config, zero=True, rngs=rngs)
    self.projector = make_projector(widths[-1], features, rngs=rngs)

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
    return self._answer(x_t, t, s, cond, key)[0]

  def aligned(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> tuple[Array, Array]:
    """The answer, and features [b, h', w', features] of a hidden layer.

    Of one level h' and w' are h and w, of n they are h and w over 2ⁿ⁻².

    Raises:
      ValueError: if the network has no projector.
    """
    answer, hidden = self._answer(x_t, t, s, cond, key)
    return answer, projected(self.projector, hidden)

  def _answer(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    key: Array | None,
  ) -> tuple[Array, Array]:
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    if self.pooled is not None:
      e = e + self.pooled(cond[POOLED])
    said = () if self.text is None else self.text(cond)
    if self.summary is not None:
      e = e + self.summary(mean_of(*said))
    run = make_run(nnx.silu(e), key, self.remat, *said)
    image, trunk = upcast(x_t), (self.down, self.middle, self.up)
    h, _, hidden = run_trunk(trunk, self.first(image), image, run)
    return self.last(h), hidden


def width_of_text(spec: DataSpec, width: int | None) -> int:
  """The width of a token of the text, 0 without text.

  Raises:
    ValueError: if it is out of range, or there is no text.
  """
  if not has_text(spec):
    if width is not None:
      raise ValueError(
        f'text_width = {width} has no effect: these examples have no text'
      )
    return 0
  width = TEXT_WIDTH if width is None else width
  check_sizes(text_width=width)
  if width % HEADS:
    raise ValueError(f'text_width = {width} must be a multiple of {HEADS}')
  return width
