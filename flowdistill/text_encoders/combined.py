"""The text encoders of pipelines that have several: FLUX.1 and SD3.

Sources: Black Forest Labs, https://github.com/black-forest-labs/flux; Esser et
al., "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis"
(2024), https://arxiv.org/abs/2403.03206, section 4; as their pipelines in
diffusers 0.42 put them together.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.text_encoders.encoder import POOLED, TEXT, Arrays
from flowdistill.text_encoders.tower import Tower

WIDTH = 4096  # of T5-XXL, which SD3 pads the others to


@dataclasses.dataclass(frozen=True)
class Combined:
  """Several towers that read the same caption, of which the last is a T5.

  Attributes:
    name: of the row.
    towers: the encoders.
  """

  name: str
  towers: Sequence[Tower]

  masked = False  # the networks were trained on padding, too

  def sizes(self, captions: Sequence[str]) -> list[int]:
    """The tokens of whole captions, by the last tower."""
    return self.towers[-1].sizes(captions)

  def check(self) -> None:
    """Raises ValueError if files are missing, or PyTorch."""
    for tower in self.towers:
      tower.check()

  def about(self) -> Mapping[str, Any]:
    """What each tower says."""
    towers = [tower.about() for tower in self.towers]
    return {'name': self.name, 'towers': towers}


class Flux(Combined):
  """The tokens of T5-XXL; pooled is the last state of CLIP-L."""

  @property
  def length(self) -> int:
    """Tokens of T5: 512 of FLUX.1-dev, 256 of schnell."""
    return self.towers[-1].length

  def encode(self, captions: Sequence[str]) -> Arrays:
    """`text` [n, length, 4096] and `pooled` [n, 768]."""
    clip, t5 = self.towers
    return {**t5.encode(captions), **clip.encode(captions)}


@dataclasses.dataclass(frozen=True)
class SD3(Combined):
  """CLIP-L beside CLIP-G, padded with zeros to 4096, and then T5-XXL.

  Without a T5 its tokens are zero, as in the pipeline.

  Attributes:
    of_t5: tokens of T5.
  """

  of_t5: int = 256

  @property
  def clips(self) -> Sequence[Tower]:
    """CLIP-L and CLIP-G."""
    return self.towers[:2]

  @property
  def t5(self) -> Tower | None:
    """The last one, if it is there."""
    return self.towers[2] if len(self.towers) > 2 else None

  @property
  def length(self) -> int:
    """77 tokens of CLIP, and those of T5."""
    return self.clips[0].length + self.of_t5

  def sizes(self, captions: Sequence[str]) -> list[int]:
    """The tokens of whole captions by the last tower, after the others."""
    others = self.length - self.towers[-1].length
    return [others + size for size in super().sizes(captions)]

  def about(self) -> Mapping[str, Any]:
    """What each tower says, and the tokens of T5 if it is missing."""
    return {**super().about(), 'of_t5': self.of_t5}

  def encode(self, captions: Sequence[str]) -> Arrays:
    """`text` [n, 77 + length of T5, 4096] and `pooled` [n, 2048]."""
    parts = [clip.encode(captions) for clip in self.clips]
    clip = np.concatenate([part[TEXT] for part in parts], axis=-1)
    pooled = np.concatenate([part[POOLED] for part in parts], axis=-1)
    if self.t5 is None:
      t5 = np.zeros((len(captions), self.of_t5, WIDTH), np.float32)
    else:
      t5 = self.t5.encode(captions)[TEXT]
    missing = t5.shape[-1] - clip.shape[-1]
    clip = np.pad(clip, ((0, 0), (0, 0), (0, missing)))
    return {TEXT: np.concatenate([clip, t5], axis=1), POOLED: pooled}
