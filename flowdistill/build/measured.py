"""Feature networks of files as evaluators ask for them.

An evaluator has pictures as the network of a run sees them, in [−1, 1]; they
become uint8 first, as they would in a file.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from flowdistill.build.features import Features, load_features
from flowdistill.flow.pixels import to_uint8
from flowdistill.networks.features import FEATURE_NETWORKS

LOGITS = 'logits_unbiased'  # of which the Inception score is


@dataclasses.dataclass(frozen=True)
class PictureFeatures:
  """Features of pictures in [−1, 1].

  Attributes:
    features: of uint8 images.
    main: the output that distances are of.
  """

  features: Features
  main: str

  @property
  def name(self) -> str:
    """'inception' gives `fid`, 'vgg16' gives `frechet_vgg16`."""
    return self.features.name

  @property
  def about(self) -> dict[str, str]:
    """What else a figure depends on, for its row."""
    return {
      'weights_sha256': self.features.sha256,
      'resize': self.features.resize,
    }

  def check(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless examples are images of 1 or 3 channels."""
    if len(shape) != 3 or shape[-1] not in (1, 3):
      raise ValueError(f'{self.name} takes images [h, w, 1 or 3]')

  def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [n, h, w, 1 or 3] -> (features [n, d], logits [n, k]; k may be 0)."""
    found = self.features(to_uint8(x))
    return found[self.main], found.get(LOGITS, np.zeros((len(x), 0)))


def _of(name: str) -> Callable[..., PictureFeatures]:
  first = next(iter(FEATURE_NETWORKS[name].outputs))

  def features(
    *, path: str = '', resize: str | None = None, output: str = first
  ) -> PictureFeatures:
    outputs = FEATURE_NETWORKS[name].outputs
    if output not in outputs:
      raise ValueError(f'output = {output!r} must be one of {[*outputs]}')
    if not path:
      raise ValueError(f"path = '' must be the file of {name}'s weights")
    return PictureFeatures(load_features(name, path, resize=resize), output)

  return features


FILE_FEATURES: Mapping[str, Callable[..., PictureFeatures]] = {
  name: _of(name) for name in FEATURE_NETWORKS
}
