"""Finished images as the examples that evaluators ask for, and as a model."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.build.sampling import Samples
from flowdistill.datasets.image_set import ImageSet
from flowdistill.datasets.images import to_unit
from flowdistill.flow.spec import DataSpec


@dataclasses.dataclass(frozen=True)
class ImageData:
  """Finished images as examples [h, w, c] in [-1, 1], without conditions."""

  images: ImageSet
  figures: None = None
  detect: None = None

  @property
  def title(self) -> str:
    """The name of the folder or file."""
    return pathlib.Path(self.images.path).name

  @property
  def spec(self) -> DataSpec:
    """Of the images."""
    return DataSpec(self.images.shape)

  @property
  def identity(self) -> dict[str, Any]:
    """The hash of the pixels."""
    return {'images': self.images.digest()}

  def conditions(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """None."""
    del index
    return {}

  def captions(self, index: np.ndarray) -> None:
    """None."""

  def prompts(self, index: np.ndarray) -> None:
    """None."""

  def encode(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
    """Raises ValueError: there is no text."""
    del prompts
    raise ValueError('prompts have no effect: finished images have no text')

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: Any) -> Mapping[str, np.ndarray]:
    return {'x0': to_unit(self.images[index])}


@dataclasses.dataclass(frozen=True)
class Finished:
  """Draws images in their order, as a model would from seeds 0, 1, ..."""

  images: ImageSet

  def defaults_of(self, sampler: str) -> Mapping[str, Any]:
    """None: nothing is sampled."""
    del sampler
    return {}

  def __call__(self, n: int, *, first: int = 0, **how: Any) -> Samples:
    """Images number `first` to `first` + n − 1, at no network call."""
    del how
    x = to_unit(self.images[np.arange(first, first + n)])
    return Samples(x, np.zeros(n, np.int32))

  def ask(self, *_: Any) -> np.ndarray:
    """Raises ValueError: there is no network."""
    raise ValueError('finished images have no network that can be asked')

  def to_space(self, x0: np.ndarray) -> np.ndarray:
    """The same."""
    return x0

  def to_pictures(self, x: np.ndarray) -> np.ndarray:
    """The same."""
    return x
