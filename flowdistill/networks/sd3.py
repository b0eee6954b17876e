"""Stable Diffusion 3 and 3.5, with times t, s.

A transformer of text and of patches in joint attention (`sd3_blocks.py`), with
the options of the published `config.json`. Its answer is a velocity, or with a
target time (`target_time.py`) an average velocity.

Patches are embedded by a convolution, and get positions from a table that is
stored with the weights, of which the centre is taken. Padding of the text takes
part, unless the data have a `mask`. Other conditions are `text` [n, d] and
`pooled` [d].

Source: Esser et al., "Scaling Rectified Flow Transformers for High-Resolution
Image Synthesis" (2024), https://arxiv.org/abs/2403.03206, section 4;
https://github.com/huggingface/diffusers, 0.42, `SD3Transformer2DModel`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2_layers import forced
from flowdistill.networks.embeddings import (
  conditioned,
  make_label,
  make_scalars,
)
from flowdistill.networks.options import DEFAULTS, NetworkOptions
from flowdistill.networks.sd3_blocks import JointBlock
from flowdistill.networks.sd3_config import SD3Config
from flowdistill.networks.sd3_positions import crop, make_table
from flowdistill.networks.sit import Patches
from flowdistill.networks.stack import Stack
from flowdistill.networks.target_time import (
  Embedder,
  TargetTime,
  TimeOptions,
)
from flowdistill.networks.text import MASK, POOLED, TEXT
from flowdistill.networks.token_layers import (
  modulate,
  on_rows,
  unpatchify,
  zero_linear,
)

Array = jax.Array
SIZES, ONE_TIME = SD3Config(), TimeOptions()


class SD3(nnx.Module):
  """A transformer of patches and text.

  Args:
    spec: of the data, of shape (h, w, c) with `text` and `pooled`.
    config: its sizes.
    masked: whether padding of the text is not attended to, where the data have
      a `mask`. Those of the published networks have none: padding takes part.
    times: the form of the times.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or does not fit the data.
  """

  signature: str = 'velocity'  # 'average' with a target time

  def __init__(
    self,
    spec: DataSpec,
    *,
    config: SD3Config = SIZES,
    masked: bool = True,
    times: TimeOptions = ONE_TIME,
    options: NetworkOptions = DEFAULTS,
    rngs: nnx.Rngs,
  ):
    config.check_data(spec)
    options.check_conditions(spec, 'sd3', (TEXT, MASK, POOLED))
    width, heads = config.width, config.num_attention_heads
    channels, patch = spec.shape[-1], config.patch_size
    self.config, self.masked = config, masked and MASK in spec.cond
    self.signature, self.derive = times.signature, times.derive
    self.position = make_table(
      config.pos_embed_max_size, config.sample_size // patch, width
    )
    self.first = Patches(patch, channels, width, rngs=rngs)
    self.times = TargetTime(width, times, rngs=rngs)
    self.pooled = Embedder(spec.cond[POOLED].shape[-1], width, rngs=rngs)
    self.text = nnx.Linear(spec.cond[TEXT].shape[-1], width, rngs=rngs)
    self.label = make_label(spec.num_classes, width, rngs=rngs)
    self.scalars = make_scalars(options, width, rngs=rngs)

    def blocks(dual: bool, last: bool, number: int) -> Stack:
      return Stack(
        lambda rngs: JointBlock(
          width, heads, normed=config.qk_norm is not None, dual=dual, last=last,
          dtype=options.products, form=options.attention_form, rngs=rngs,
        ),
        number,
        remat=options.remat,
        rngs=rngs,
      )  # fmt: skip

    self.stacks = tuple(f'blocks_{i}' for i in range(len(config.runs)))
    for name, run in zip(self.stacks, config.runs, strict=True):
      setattr(self, name, blocks(*run))
    self.modulation = zero_linear(width, 2 * width, rngs=rngs)
    self.last = zero_linear(width, patch * patch * channels, rngs=rngs)

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
    `key` is ignored: there is no dropout.
    """
    del key
    grid = self.config.grid(x_t.shape[1:3])
    e = nnx.silu(self.embedding(t, s, cond))
    picture, text = self.tokens(x_t, grid), on_rows(self.text, cond[TEXT])
    size, mask = picture.shape[1], self.mask(picture, cond)
    h = jnp.concatenate([picture, text.astype(picture.dtype)], axis=1)
    for name in self.stacks:
      h = getattr(self, name)(h, e, mask, size)
    scale, shift = jnp.split(self.modulation(e)[:, None], 2, axis=-1)
    h = on_rows(self.last, modulate(h[:, :size], shift, scale))
    return unpatchify(h, grid, self.config.patch_size)

  def embedding(self, t: Array, s: Array, cond: Mapping[str, Array]) -> Array:
    """Of times and conditions, [b, width]."""
    e = self.times(t, s) + self.pooled(cond[POOLED])
    return conditioned(e, cond, label=self.label, scalars=self.scalars)

  def tokens(self, x_t: Array, grid: tuple[int, int]) -> Array:
    """The patches of a picture with their positions, [b, n, width]."""
    position = crop(self.position[...], grid, self.config.pos_embed_max_size)
    return self.first(x_t) + jax.lax.stop_gradient(position)

  def mask(self, picture: Array, cond: Mapping[str, Array]) -> Array | None:
    """Which tokens are attended to, bool [b, n]; None for all."""
    if not self.masked:
      return None
    real = cond[MASK].astype(bool)
    return jnp.concatenate([jnp.ones(picture.shape[:2], bool), real], axis=1)

  @staticmethod
  def project(params: Any, before: Any) -> Any:
    """The parameters after an update, with the positions as they were."""
    return forced(params, before)
