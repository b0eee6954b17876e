"""Feature networks as a config names them.

A network of a file has pictures as the network of a run sees them, in [−1, 1];
they become uint8 first, as they would in a file.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flowdistill.build.features import Features, load_features
from flowdistill.build.placed import batched
from flowdistill.config import protocols
from flowdistill.flow.pixels import RULE, to_uint8
from flowdistill.networks.features import FEATURE_NETWORKS, FEATURES
from flowdistill.networks.features.clip_tokens import read_tokenizer

LOGITS = 'logits_unbiased'  # of which the Inception score is
SPATIAL = 'spatial'  # of which sFID is
PAIRS = 'pairs'  # images and captions in one space
BATCH = 32
NONE: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class PictureFeatures:
  """Features of pictures in [−1, 1], or of uint8 ones.

  Attributes:
    features: of uint8 images.
    main: the output that distances are of.
    vocabulary: the file of CLIP's tokens, '' if captions are not asked for.
    batch: examples of a call on each device.
  """

  features: Features
  main: str
  vocabulary: str = ''
  batch: int = BATCH

  @property
  def networks(self) -> 'tuple[PictureFeatures, ...]':
    """Itself."""
    return (self,)

  @property
  def name(self) -> str:
    """'inception' gives `fid`, 'vgg16' gives `frechet_vgg16`."""
    return self.features.name

  @property
  def about(self) -> dict[str, str]:
    """What a figure depends on, for its row."""
    outputs = [*self.features.outputs]
    other = {} if self.main == outputs[0] else {'output': self.main}
    return {
      'features': self.name,
      'weights_sha256': self.features.sha256,
      'resize': self.features.resize,
      'uint8': RULE,
      **other,
    }

  @functools.cached_property
  def outputs(self) -> dict[str, str]:
    """What metrics ask for -> the output of the network."""
    wanted = {'features': self.main, 'logits': LOGITS, SPATIAL: SPATIAL}
    known = self.features.outputs
    return {kind: name for kind, name in wanted.items() if name in known}

  @property
  def kinds(self) -> tuple[str, ...]:
    """What it answers; pairs only with a vocabulary."""
    return (*self.outputs, *([PAIRS] if self.vocabulary else []))

  @property
  def params(self) -> Any:
    """The weights."""
    return self.features.params

  def length_of(self, kind: str) -> int:
    """Of the features of a kind, such as 'spatial'."""
    return self.features.outputs[self.outputs[kind]]

  def check(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless examples are images of 1 or 3 channels."""
    if len(shape) != 3 or shape[-1] not in (1, 3):
      raise ValueError(f'{self.name} takes images [h, w, 1 or 3]')

  def prepare(self, x: np.ndarray) -> np.ndarray:
    """x [b, h, w, 1 or 3] -> what the network takes, resized."""
    return self.features.prepare(x if x.dtype == np.uint8 else to_uint8(x))

  def apply(self, params: Any, x: jax.Array) -> dict[str, jax.Array]:
    """Prepared images -> what metrics ask for, by kind."""
    found = self.features.apply(params, x)
    return {kind: found[name] for kind, name in self.outputs.items()}

  @functools.cached_property
  def text(self) -> Callable[[Sequence[str]], np.ndarray]:
    """Captions -> embeddings [n, d], on the first device."""
    tokens = read_tokenizer(self.vocabulary)
    embed = jax.jit(self.features.apply_text)

    def text(captions: Sequence[str]) -> np.ndarray:
      return batched(lambda t: embed(self.params, t), tokens(captions), BATCH)

    return text


@dataclasses.dataclass(frozen=True)
class Several:
  """Feature networks that see the same samples, for `quality`."""

  networks: tuple[Any, ...]

  def check(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError if one of them cannot take examples of a shape."""
    for each in self.networks:
      each.check(shape)


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

  def clip(
    *, path: str = '', resize: str | None = None, vocabulary: str = ''
  ) -> PictureFeatures:
    network = features(path=path, resize=resize)
    if vocabulary:
      read_tokenizer(vocabulary)
    return dataclasses.replace(network, vocabulary=vocabulary)

  return clip if name.startswith('clip') else features


def several(*, of: Mapping[str, protocols.Features] = NONE) -> Several:
  """Several feature networks, which see the same samples.

  Raises:
    ValueError: if there are none, or two would give a figure the same name.
  """
  networks = tuple(n for law in of.values() for n in law().networks)
  names = [network.name for network in networks]
  again = [name for i, name in enumerate(names) if name in names[:i]]
  if not networks:
    raise ValueError("of = {} must have networks, like {'a': 'digits'}")
  if again:
    raise ValueError(f'of has {again[0]!r} twice: their figures have one name')
  return Several(networks)


FEATURE_LAWS: Mapping[str, Callable[..., Any]] = {
  **FEATURES,
  **{name: _of(name) for name in FEATURE_NETWORKS},
  'several': several,
}
"""Name in configs -> law() -> what has `networks`, and `check` for a shape."""
