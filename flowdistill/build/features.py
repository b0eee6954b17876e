"""Feature networks with weights of files, for metrics.

  features = load_features('inception', 'weights-inception.pth')
  features(images)['pool3']  # uint8 [n, h, w, 3] -> float32 [n, 2048]

`prepare` runs on the host and `apply` on the device, so that a job may do the
latter over its mesh.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np
from flax import nnx

from flowdistill.build.foreign import (
  FileNetwork,
  path_of,
  read_params,
  weights_digest,
)
from flowdistill.build.models import shape_model
from flowdistill.config.bind import suggest
from flowdistill.convert import clip, dinov2, inception, vgg16
from flowdistill.networks.features import FEATURE_NETWORKS, RESIZES
from flowdistill.networks.features.clip import CLIP
from flowdistill.training.roles import Params

BATCH = 32


def _file(name: str, rules: ModuleType) -> FileNetwork:
  make = FEATURE_NETWORKS[name].make
  return FileNetwork(
    lambda: make(rngs=nnx.Rngs(0)), rules.wanted, rules.from_torch
  )


FILES = {
  name: _file(name, rules)
  for name, rules in (
    ('inception', inception),
    ('dinov2_vits14', dinov2),
    ('dinov2_vitb14', dinov2),
    ('dinov2_vitl14', dinov2),
    ('clip_vitb32', clip),
    ('clip_vitl14', clip),
    ('vgg16', vgg16),
  )
}
"""Name in `FEATURE_NETWORKS` -> how the weights in its file are read."""


@dataclasses.dataclass(frozen=True)
class Features:
  """A feature network with its weights.

  Attributes:
    name: in `FEATURE_NETWORKS`.
    sha256: of the file of the weights.
    resize: name in `RESIZES`.
    side: height and width of what the network sees, in pixels.
    outputs: name of an output -> its width.
    params: the weights, an argument of `apply`.
    graph: of the network.
  """

  name: str
  sha256: str
  resize: str
  side: int
  outputs: Mapping[str, int]
  params: Params
  graph: Any

  def prepare(self, images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 1 or 3] -> float32 [n, side, side, 3] in [0, 255].

    Raises:
      ValueError: for anything else.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
      raise ValueError(
        f'the images have the shape {list(images.shape)}; {self.name} takes '
        '[n, h, w, 1 or 3]'
      )
    if images.dtype != np.uint8:
      raise ValueError(
        f'the images have the dtype {images.dtype}; {self.name} takes uint8 '
        'in [0, 255]'
      )
    colours = np.broadcast_to(images, (*images.shape[:3], 3))
    return RESIZES[self.resize](colours, self.side)

  def apply(self, params: Params, x: jax.Array) -> dict[str, jax.Array]:
    """The outputs of prepared images, in float32 on every device."""
    with jax.default_matmul_precision('highest'):
      return nnx.merge(self.graph, params)(x)

  def apply_text(self, params: Params, tokens: jax.Array) -> jax.Array:
    """The embeddings of captions, in the space of CLIP's output `image`.

    Args:
      params: the weights.
      tokens: int [b, 77], see `networks/features/clip_tokens.py`.

    Returns:
      [b, width].

    Raises:
      ValueError: if it is not a CLIP.
    """
    model = nnx.merge(self.graph, params)
    if not isinstance(model, CLIP):
      raise ValueError(f'{self.name} knows no captions; a CLIP does')
    with jax.default_matmul_precision('highest'):
      return model.text(tokens)['text']

  @functools.cached_property
  def compiled(self) -> Callable[[Any], dict[str, jax.Array]]:
    """`apply` with the weights, which are put on the device once."""
    params, apply = jax.device_put(self.params), jax.jit(self.apply)
    return lambda x: apply(params, x)

  def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [n, h, w, 1 or 3] -> name of an output -> float32 [n, width].

    The last batch is filled up, so that one program is compiled.
    """
    rows = []
    for i in range(0, len(images), BATCH):
      x = self.prepare(images[i : i + BATCH])
      full = np.pad(x, [(0, BATCH - len(x)), (0, 0), (0, 0), (0, 0)])
      found = self.compiled(full)
      rows.append({n: np.asarray(f)[: len(x)] for n, f in found.items()})
    if not rows:
      self.prepare(images)  # which says what is wrong
    return {n: np.concatenate([row[n] for row in rows]) for n in self.outputs}


def load_features(
  name: str, path: str, *, resize: str | None = None
) -> Features:
  """A feature network with the weights of a file.

  Args:
    name: in `FEATURE_NETWORKS`.
    path: of a .safetensors, .npz or .pth; see docs/features.md.
    resize: name in `RESIZES`; None takes the one of its published figures.

  Raises:
    ValueError: for a name that does not exist, or a file that is not there, is
      damaged, or has other weights; it names the file.
  """
  for key, given, known in (
    ('network', name, FEATURE_NETWORKS),
    ('resize', resize or 'tf_bilinear', RESIZES),
  ):
    if given not in known:
      raise ValueError(
        f'{key} = {given!r} must be the name of one; {suggest(given, known)}'
      )
  network, file = FEATURE_NETWORKS[name], path_of(path)
  model = shape_model(FILES[name].make)
  return Features(
    name=name,
    sha256=weights_digest(file),
    resize=resize or network.resize,
    side=network.side,
    outputs=network.outputs,
    params=read_params(FILES[name], model, file),
    graph=model.graph,
  )
