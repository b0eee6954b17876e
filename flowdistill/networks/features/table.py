"""The feature networks whose weights a user names as a file, by name."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

from flax import nnx

from flowdistill.networks.features.clip import CLIP
from flowdistill.networks.features.dinov2 import DINOv2
from flowdistill.networks.features.inception import Inception
from flowdistill.networks.features.vgg16 import VGG16


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
  """A feature network, what it takes and what it answers.

  Attributes:
    make: make(rngs=...) is the network; it takes images [b, side, side, 3] in
      [0, 255] and answers a dict of features.
    side: height and width of its images, in pixels.
    resize: name in `RESIZES` with which its figures are published.
    outputs: name of an output -> its width; the first one is what Fréchet
      distances are of by default.
  """

  make: Callable[..., nnx.Module]
  side: int
  resize: str
  outputs: Mapping[str, int]


def _dinov2(width: int, depth: int, heads: int) -> FeatureNetwork:
  def make(*, rngs: nnx.Rngs) -> DINOv2:
    return DINOv2(width=width, depth=depth, heads=heads, rngs=rngs)

  outputs = MappingProxyType({'cls': width})
  return FeatureNetwork(make, 224, 'pil_rounded', outputs)


def _clip(width: int, text: int, depth: int, patch: int) -> FeatureNetwork:
  def make(*, rngs: nnx.Rngs) -> CLIP:
    return CLIP(
      width=width,
      depth=depth,
      patch=patch,
      side=224 // patch,
      text_width=text,
      embedding=text,
      rngs=rngs,
    )

  outputs = MappingProxyType({'image': text})
  return FeatureNetwork(make, 224, 'pil_cropped', outputs)


FEATURE_NETWORKS = {
  'inception': FeatureNetwork(
    Inception,
    299,
    'tf_bilinear',
    MappingProxyType(
      {'pool3': 2048, 'logits': 1008, 'logits_unbiased': 1008, 'spatial': 2023}
    ),
  ),
  'dinov2_vits14': _dinov2(384, 12, 6),
  'dinov2_vitb14': _dinov2(768, 12, 12),
  'dinov2_vitl14': _dinov2(1024, 24, 16),
  'clip_vitb32': _clip(768, 512, 12, 32),
  'clip_vitl14': _clip(1024, 768, 24, 14),
  'vgg16': FeatureNetwork(
    VGG16,
    224,
    'tf_bilinear',
    MappingProxyType({'fc2_relu': 4096, 'fc2': 4096}),
  ),
}
