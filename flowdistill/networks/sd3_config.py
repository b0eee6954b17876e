"""The sizes of Stable Diffusion 3, as its published `config.json` has them.

Source: https://github.com/huggingface/diffusers, 0.42,
`SD3Transformer2DModel`.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.ranges import check_sizes
from flowdistill.networks.text import POOLED, TEXT, check_text

RMS_NORM = 'rms_norm'


@dataclasses.dataclass(frozen=True, kw_only=True)
class SD3Config:
  """The published `config.json`, by the names of diffusers.

  Sizes that are None are those of the data; where they are given, the data must
  have them.

  Attributes:
    sample_size: side of the latents that positions count from: at
      initialisation the positions of the table span `sample_size / patch_size`.
    patch_size: side of a patch.
    in_channels: of the latents.
    num_layers: number of blocks.
    attention_head_dim: channels of a head.
    num_attention_heads: heads; with the former, the width of a token.
    joint_attention_dim: width of the text.
    caption_projection_dim: width of a token of the text, that of any token.
    pooled_projection_dim: width of the pooled text.
    out_channels: of the answer, those of the latents.
    pos_embed_max_size: side of the table of positions, in patches.
    dual_attention_layers: numbers of the blocks with a second attention.
    qk_norm: 'rms_norm' or None.

  Raises:
    ValueError: if a size is below 1, or does not fit the others.
  """

  flat: ClassVar[bool] = True  # in a config its fields are options of `sd3`
  sample_size: int = 128
  patch_size: int = 2
  in_channels: int | None = None
  num_layers: int = 18
  attention_head_dim: int = 64
  num_attention_heads: int = 18
  joint_attention_dim: int | None = None
  caption_projection_dim: int | None = None
  pooled_projection_dim: int | None = None
  out_channels: int | None = None
  pos_embed_max_size: int = 96
  dual_attention_layers: tuple[int, ...] = ()
  qk_norm: str | None = None

  def __post_init__(self) -> None:
    check_sizes(
      sample_size=self.sample_size,
      patch_size=self.patch_size,
      num_layers=self.num_layers,
      attention_head_dim=self.attention_head_dim,
      num_attention_heads=self.num_attention_heads,
      pos_embed_max_size=self.pos_embed_max_size,
    )
    if self.width % 4:
      raise ValueError(
        f'attention_head_dim = {self.attention_head_dim} must make a width '
        f'that 4 divides, for positions of rows and columns; times '
        f'num_attention_heads = {self.num_attention_heads} it is {self.width}'
      )
    if self.caption_projection_dim not in (None, self.width):
      raise ValueError(
        f'caption_projection_dim = {self.caption_projection_dim} must be '
        f'{self.width}, attention_head_dim times num_attention_heads'
      )
    if self.qk_norm not in (None, RMS_NORM):
      raise ValueError(
        f'qk_norm = {self.qk_norm!r} must be None or {RMS_NORM!r}'
      )
    self._check_dual()

  def _check_dual(self) -> None:
    dual, last = tuple(self.dual_attention_layers), self.num_layers - 1
    object.__setattr__(self, 'dual_attention_layers', dual)  # JSON has lists
    if any(not 0 <= i <= last for i in dual) or len(set(dual)) < len(dual):
      raise ValueError(
        f'dual_attention_layers = {dual} must be different numbers of blocks, '
        f'0 ... {last} for num_layers = {self.num_layers}'
      )

  @property
  def width(self) -> int:
    """Of a token."""
    return self.attention_head_dim * self.num_attention_heads

  @property
  def runs(self) -> list[tuple[bool, bool, int]]:
    """(dual, last, number) of equal blocks that follow each other."""
    dual = set(self.dual_attention_layers)
    last = self.num_layers - 1
    kinds = ((i in dual, i == last) for i in range(self.num_layers))
    return [(*kind, len(list(run))) for kind, run in itertools.groupby(kinds)]

  def check_data(self, spec: DataSpec) -> None:
    """Raises ValueError unless the data have the shapes of this network."""
    if len(spec.shape) != 3:
      raise ValueError(f'sd3 takes images [h, w, c], not {list(spec.shape)}')
    for name in (TEXT, POOLED):
      if name not in spec.cond:
        raise ValueError(
          f'sd3 takes the conditions {TEXT!r} and {POOLED!r}, and these '
          f'examples have no {name!r}: they must have captions, encoded by a '
          "text encoder that has both, such as 'sd3'"
        )
    check_text(spec)
    *sides, channels = spec.shape
    self.grid(sides)
    for name, size in (
      ('in_channels', channels),
      ('out_channels', channels),
      ('joint_attention_dim', spec.cond[TEXT].shape[-1]),
      ('pooled_projection_dim', spec.cond[POOLED].shape[-1]),
    ):
      if getattr(self, name) not in (None, size):
        raise ValueError(
          f'{name} = {getattr(self, name)} must be {size}, as of these data'
        )

  def grid(self, sides: Sequence[int]) -> tuple[int, int]:
    """The patches of latents of some height and width.

    Raises:
      ValueError: if patches do not tile them, or the table is too small.
    """
    height, across = sides
    patch, most = self.patch_size, self.pos_embed_max_size
    if height % patch or across % patch:
      raise ValueError(
        f'patch_size = {patch} does not divide {height} x {across}'
      )
    rows, columns = height // patch, across // patch
    if max(rows, columns) > most:
      raise ValueError(
        f'pos_embed_max_size = {most} must be at least {max(rows, columns)}: '
        f'latents of {height} x {across} have {rows} x {columns} patches'
      )
    return rows, columns
