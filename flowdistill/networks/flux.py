"""FLUX.1, with the published architecture and the time s of few-step students.

Latents are packed 2 x 2 into tokens; a text and a pooled vector condition them,
and in FLUX.1-dev the guidance scale that it was distilled with. The options
have the names of config.json in diffusers: their defaults are FLUX.1-schnell,
with `guidance_embeds` FLUX.1-dev. `convert/flux.py` reads their weights.

Without `target_time` it answers the velocity, as published; with it, the
average velocity from t to s (see `target_time.py`).

Source: https://github.com/black-forest-labs/flux, of Black Forest Labs (2024);
FluxTransformer2DModel of https://github.com/huggingface/diffusers.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.flow.spec import CONTROL, DataSpec
from flowdistill.networks.embeddings import (
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.flux_blocks import DoubleBlock, SingleBlock
from flowdistill.networks.flux_options import (
  DISTILLED,
  GUIDANCE,
  check_published,
  check_spec,
  check_widths,
)
from flowdistill.networks.flux_positions import (
  PACK,
  angles_of,
  pack,
  positions,
  unpack,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.stack import Stack
from flowdistill.networks.target_time import (
  FEATURES,
  ONE_TIME,
  Embedder,
  TargetTime,
  TimeOptions,
  sinusoid,
)
from flowdistill.networks.text import MASK, POOLED, TEXT
from flowdistill.networks.token_layers import modulate, on_rows, zero_linear

Array = jax.Array


class Flux(nnx.Module):
  """A transformer of packed latents and text.

  Args:
    spec: of the data, of shape (h, w, c) with even h and w. Its conditions are
      `text` [n, d] and `pooled` [d], and where it has them: `mask` [n], so that
      padding is not attended to (FLUX.1 has none: its padding takes part);
      `control` [h, w, k], further channels of the input as of FLUX.1-Fill;
      `distilled_guidance`; and a label.
    patch_size: 1, which does not count the packing.
    in_channels: of a token, 4 (c + k); None is that of the data.
    out_channels: of a token, 4 c; None is that of the data.
    num_layers: number of double blocks.
    num_single_layers: number of single blocks.
    attention_head_dim: channels of a head.
    num_attention_heads: number of heads; a token has the channels of all.
    joint_attention_dim: d of `text`; None is that of the data.
    pooled_projection_dim: d of `pooled`; None is that of the data.
    guidance_embeds: whether the guidance scale of FLUX.1-dev is embedded.
    axes_dims_rope: channels of a head for the position on each axis.
    distilled_guidance: that scale where the data have none; None requires that
      they have one.
    times: the form of the times.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range or not that of the data, or the
      spec lacks a condition or has one that the network does not take.
  """

  signature: str = 'velocity'  # 'average' with a target time

  def __init__(
    self,
    spec: DataSpec,
    *,
    patch_size: int = 1,
    in_channels: int | None = None,
    out_channels: int | None = None,
    num_layers: int = 19,
    num_single_layers: int = 38,
    attention_head_dim: int = 128,
    num_attention_heads: int = 24,
    joint_attention_dim: int | None = None,
    pooled_projection_dim: int | None = None,
    guidance_embeds: bool = False,
    axes_dims_rope: tuple[int, ...] = (16, 56, 56),
    distilled_guidance: float | None = GUIDANCE,
    times: TimeOptions = ONE_TIME,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    check_spec(spec, options, guided=guidance_embeds, scale=distilled_guidance)
    check_published(
      spec,
      patch_size=patch_size,
      in_channels=in_channels,
      out_channels=out_channels,
      joint_attention_dim=joint_attention_dim,
      pooled_projection_dim=pooled_projection_dim,
    )
    check_widths(
      num_layers=num_layers,
      num_single_layers=num_single_layers,
      attention_head_dim=attention_head_dim,
      num_attention_heads=num_attention_heads,
      axes_dims_rope=axes_dims_rope,
    )
    heads, width = num_attention_heads, num_attention_heads * attention_head_dim
    output, control = spec.shape[-1], spec.cond.get(CONTROL)
    inputs = output + (control.shape[-1] if control else 0)
    self.axes, self.controlled = tuple(axes_dims_rope), control is not None
    self.signature, self.derive = times.signature, times.derive
    self.times = TargetTime(width, times, rngs=rngs)
    self.label = make_label(spec.num_classes, width, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)
    self.pooled = Embedder(spec.cond[POOLED].shape[0], width, rngs=rngs)
    self.scale = GUIDANCE if distilled_guidance is None else distilled_guidance
    self.distilled = make_distilled(guidance_embeds, width, rngs=rngs)
    self.first = nnx.Linear(PACK * PACK * inputs, width, rngs=rngs)
    self.text = nnx.Linear(spec.cond[TEXT].shape[-1], width, rngs=rngs)
    blocks = functools.partial(make_blocks, width, heads, options, rngs=rngs)
    self.double = blocks(DoubleBlock, num_layers)
    self.single = blocks(SingleBlock, num_single_layers)
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    self.last = zero_linear(width, PACK * PACK * output, rngs=rngs)

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

    h and w, and the number of tokens of the text, may be other ones than in the
    spec: no parameter depends on them. There is no dropout.
    """
    del key
    grid = x_t.shape[1] // PACK, x_t.shape[2] // PACK
    if self.controlled:
      x_t = jnp.concatenate([x_t, cond[CONTROL].astype(x_t.dtype)], axis=-1)
    e = self.embed(t, s, cond)
    picture = on_rows(self.first, pack(x_t))
    text, mask = self.read(cond, picture.shape[1])
    length = text.shape[1]
    h = jnp.concatenate([text.astype(picture.dtype), picture], axis=1)
    angles = angles_of(positions(length, grid), self.axes)
    if self.double is not None:
      h = self.double(h, e, mask, angles, length)
    if self.single is not None:
      h = self.single(h, e, mask, angles)
    scale, shift = jnp.split(self.modulation(e)[:, None], 2, axis=-1)
    h = on_rows(self.last, modulate(h[:, length:], shift, scale))
    return unpack(h, grid)

  def embed(self, t: Array, s: Array, cond: Mapping[str, Array]) -> Array:
    """What modulates all layers, [b, width]: times, pooled text and scalars."""
    e = conditioned(
      self.times(t, s), cond, label=self.label, scalars=self.scalars
    )
    if self.distilled is not None:
      scale = cond.get(DISTILLED, jnp.full(t.shape, self.scale))
      e = e + self.distilled(sinusoid(scale))
    return nnx.silu(e + self.pooled(cond[POOLED]))

  def read(
    self, cond: Mapping[str, Array], tokens: int
  ) -> tuple[Array, Array | None]:
    """The text [b, n, width], and which of it and `tokens` are attended to."""
    text = cond[TEXT]
    if MASK not in cond:
      return on_rows(self.text, text), None
    real = cond[MASK].astype(bool)
    # Zeros in place of padding: its product with a zero weight is finite.
    text = on_rows(self.text, jnp.where(real[..., None], text, 0))
    rest = jnp.ones((len(real), tokens), bool)
    return text, jnp.concatenate([real, rest], axis=1)


def make_distilled(
  embedded: bool, width: int, *, rngs: nnx.Rngs
) -> Embedder | None:
  """The embedder of the guidance scale, None where there is none."""
  return Embedder(FEATURES, width, rngs=rngs) if embedded else None


def make_blocks(
  width: int,
  heads: int,
  options: NetworkOptions,
  kind: type[DoubleBlock] | type[SingleBlock],
  number: int,
  *,
  rngs: nnx.Rngs,
) -> Stack | None:
  """`number` blocks of one kind, None for no block."""
  if not number:
    return None
  return Stack(
    lambda rngs: kind(
      width,
      heads,
      dtype=options.products,
      form=options.attention_form,
      rngs=rngs,
    ),
    number,
    remat=options.remat,
    rngs=rngs,
  )
