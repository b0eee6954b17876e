"""FLUX.1 and SD3 as flow maps: transformers that are told two times, t and s.

Their answer is the average velocity u from t to s <= t, with which
x_s = x_t + (s - t) u. All else is as in the classes of diffusers that they
extend. `target_time` says how s is embedded beside t:

  midpoint    e(t - (t - s) / 2)
  scaled_gap  e(t) + (t - s) e2(s)
  sum         e(t) + e2(s)
  gated       (1 - gate) e(t) + gate e2(t - s)

Times, and the guidance scale of FLUX.1-dev, are embedded in float32, whatever
the type of the weights is: in bfloat16, 1000 times 3.5 is 3504.

This file is part of flowdistill, which has written it beside the weights.
"""

from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import (
  TimestepEmbedding,
  get_timestep_embedding,
)
from torch import Tensor, nn

FEATURES = 256


class GivenEmbedding(TimestepEmbedding):
  """An embedder that answers what it was given before the call."""

  answer: Tensor

  def forward(self, sample: Tensor, condition: Any = None) -> Tensor:
    return self.answer

  def of(self, t: Tensor) -> Tensor:
    """e(t), [b] -> [b, width]."""
    return super().forward(sinusoid(t).to(self.linear_1.weight.dtype))


def sinusoid(t: Tensor) -> Tensor:
  """cos and sin of 1000 t at 128 frequencies, [b] -> [b, 256]."""
  return get_timestep_embedding(
    1000 * t, FEATURES, flip_sin_to_cos=True, downscale_freq_shift=0
  )


class ScalarEmbedding(nn.Module):
  """Two layers of the cos and sin of a number such as a guidance scale."""

  def __init__(self, width: int, max_frequency: float):
    super().__init__()
    self.width, self.max_frequency = width, max_frequency
    self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

  def forward(self, value: Tensor) -> Tensor:
    """[b] -> [b, width]."""
    exponents = torch.linspace(0, 1, self.width // 2, device=value.device)
    angles = value.float()[:, None] * self.max_frequency**exponents
    features = torch.cat([angles.cos(), angles.sin()], -1)
    features = features.to(self.first.weight.dtype)
    return self.second(nn.functional.silu(self.first(features)))


class TwoTimes:
  """What both transformers add to those of diffusers."""

  def _add_embedders(self) -> None:
    embed, width = self.time_text_embed, self.inner_dim
    embed.timestep_embedder = GivenEmbedding(FEATURES, width)
    if hasattr(embed, 'guidance_embedder'):
      embed.guidance_embedder = GivenEmbedding(FEATURES, width)
    if self.config.target_time != 'midpoint':
      second = {'timestep_embedder': TimestepEmbedding(FEATURES, width)}
      self.time_text_embed_2 = nn.ModuleDict(second)
    if self.config.takes_guidance:
      guidance = ScalarEmbedding(width, self.config.max_frequency)
      of = nn.ModuleDict({'guidance': guidance})
      self.scalars = nn.ModuleDict({'of': of})

  def _embed(self, t: Tensor, s: Tensor, scale: Tensor | None) -> Tensor:
    """The embedding of the times t and s, and of a guidance scale, [b]."""
    first, form = (
      self.time_text_embed.timestep_embedder,
      self.config.target_time,
    )
    t, s = t.float(), s.float()
    if form == 'midpoint':
      e = first.of(t - (t - s) / 2)
    elif form == 'gated':
      gate = self.config.gate
      e = (1 - gate) * first.of(t) + gate * self._second(t - s)
    else:
      gap = (t - s)[:, None] if form == 'scaled_gap' else 1
      e = first.of(t) + (gap * self._second(s)).to(first.linear_1.weight.dtype)
    if not self.config.takes_guidance:
      return e
    if scale is None:
      raise ValueError(
        'this flow map takes a guidance scale: give `scale`, [b]'
      )
    return e + self.scalars['of']['guidance'](scale)

  def _second(self, time: Tensor) -> Tensor:
    embedder = self.time_text_embed_2['timestep_embedder']
    return embedder(sinusoid(time).to(embedder.linear_1.weight.dtype))

  def forward(
    self,
    *args: Any,
    timestep: Tensor,
    target: Tensor,
    scale: Tensor | None = None,
    **kwargs: Any,
  ) -> Any:
    """As the class of diffusers, but for the times, which lie in [0, 1].

    Args:
      timestep: t, [b].
      target: s, [b].
      scale: the guidance scale [b], if the flow map takes one.
    """
    embed, guidance = self.time_text_embed, kwargs.get('guidance')
    embed.timestep_embedder.answer = self._embed(timestep, target, scale)
    if guidance is not None:
      embedder = embed.guidance_embedder
      embedder.answer = embedder.of(guidance.float())
    return super().forward(*args, timestep=timestep, **kwargs)


class FlowMapFluxTransformer2DModel(TwoTimes, FluxTransformer2DModel):
  """FLUX.1 of two times."""

  @register_to_config
  def __init__(
    self,
    patch_size: int = 1,
    in_channels: int = 64,
    out_channels: int | None = None,
    num_layers: int = 19,
    num_single_layers: int = 38,
    attention_head_dim: int = 128,
    num_attention_heads: int = 24,
    joint_attention_dim: int = 4096,
    pooled_projection_dim: int = 768,
    guidance_embeds: bool = False,
    axes_dims_rope: tuple[int, ...] = (16, 56, 56),
    target_time: str = 'midpoint',
    gate: float = 0.25,
    takes_guidance: bool = False,
    max_frequency: float = 16.0,
  ):
    FluxTransformer2DModel.__init__(
      self,
      patch_size=patch_size,
      in_channels=in_channels,
      out_channels=out_channels,
      num_layers=num_layers,
      num_single_layers=num_single_layers,
      attention_head_dim=attention_head_dim,
      num_attention_heads=num_attention_heads,
      joint_attention_dim=joint_attention_dim,
      pooled_projection_dim=pooled_projection_dim,
      guidance_embeds=guidance_embeds,
      axes_dims_rope=axes_dims_rope,
    )
    self._add_embedders()


class FlowMapSD3Transformer2DModel(TwoTimes, SD3Transformer2DModel):
  """Stable Diffusion 3 or 3.5 of two times."""

  @register_to_config
  def __init__(
    self,
    sample_size: int = 128,
    patch_size: int = 2,
    in_channels: int = 16,
    num_layers: int = 18,
    attention_head_dim: int = 64,
    num_attention_heads: int = 18,
    joint_attention_dim: int = 4096,
    caption_projection_dim: int = 1152,
    pooled_projection_dim: int = 2048,
    out_channels: int = 16,
    pos_embed_max_size: int = 96,
    dual_attention_layers: tuple[int, ...] = (),
    qk_norm: str | None = None,
    target_time: str = 'midpoint',
    gate: float = 0.25,
    takes_guidance: bool = False,
    max_frequency: float = 16.0,
  ):
    SD3Transformer2DModel.__init__(
      self,
      sample_size=sample_size,
      patch_size=patch_size,
      in_channels=in_channels,
      num_layers=num_layers,
      attention_head_dim=attention_head_dim,
      num_attention_heads=num_attention_heads,
      joint_attention_dim=joint_attention_dim,
      caption_projection_dim=caption_projection_dim,
      pooled_projection_dim=pooled_projection_dim,
      out_channels=out_channels,
      pos_embed_max_size=pos_embed_max_size,
      dual_attention_layers=dual_attention_layers,
      qk_norm=qk_norm,
    )
    self._add_embedders()
