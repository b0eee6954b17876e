"""CLIP: images and captions in one space, for the CLIP score.

Source: Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision" (2021), https://arxiv.org/abs/2103.00020;
https://github.com/openai/CLIP.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.features.transformer import (
  Patches,
  make_layers,
  norm,
  standardise,
)

Array = jax.Array
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
EPS = 1e-5
HEAD = 64  # channels of a head


class CLIP(nnx.Module):
  """CLIP with vision transformers.

  Args:
    width: of an image's tokens.
    depth: number of layers of the image tower.
    patch: height and width of a patch, in pixels.
    side: height and width of an image, in patches.
    text_width: of a caption's tokens.
    text_depth: number of layers of the text tower.
    embedding: width of what both towers answer.
    words: size of the vocabulary; its last word ends a caption.
    length: of a caption, in tokens.
    head: channels of a head.
    rngs: for the initial parameters, which are meaningless: load those of a
      file (`convert/clip.py`).
  """

  signature: ClassVar[str] = 'features'

  def __init__(
    self,
    *,
    width: int,
    depth: int,
    patch: int,
    side: int,
    text_width: int,
    text_depth: int = 12,
    embedding: int,
    words: int = 49408,
    length: int = 77,
    head: int = HEAD,
    rngs: nnx.Rngs,
  ):
    self.image_tower = ImageTower(
      width, depth, patch, side, embedding, head, rngs=rngs
    )
    self.text_tower = TextTower(
      text_width, text_depth, words, length, embedding, head, rngs=rngs
    )
    self.logit_scale = nnx.Param(jnp.zeros(()))

  def __call__(self, x: Array) -> dict[str, Array]:
    """Images [b, h, w, 3] in [0, 255] -> `image`: [b, embedding]."""
    return {'image': self.image_tower(x)}

  def text(self, tokens: Array) -> dict[str, Array]:
    """Tokens int [b, length] (see `clip_tokens.py`) -> `text`: [b, embedding].

    Neither embedding is normalised; the CLIP score is 100 times the cosine of
    the two, at least 0.
    """
    return {'text': self.text_tower(tokens)}


class ImageTower(nnx.Module):
  """Images to embeddings, by a class token."""

  def __init__(
    self,
    width: int,
    depth: int,
    patch: int,
    side: int,
    embedding: int,
    head: int,
    *,
    rngs: nnx.Rngs,
  ):
    self.patches = Patches(width, patch, side, bias=False, rngs=rngs)
    self.norm_in = norm(width, EPS, rngs)
    self.layers = _layers(width, depth, head, rngs)
    self.norm_out = norm(width, EPS, rngs)
    self.out = nnx.Linear(width, embedding, use_bias=False, rngs=rngs)

  def __call__(self, x: Array) -> Array:
    """[b, h, w, 3] in [0, 255] -> [b, embedding]."""
    h = self.norm_in(self.patches(standardise(x, MEAN, STD)))
    return self.out(self.norm_out(self.layers(h)[:, 0]))


class TextTower(nnx.Module):
  """Captions to embeddings, by the token at their end."""

  def __init__(
    self,
    width: int,
    depth: int,
    words: int,
    length: int,
    embedding: int,
    head: int,
    *,
    rngs: nnx.Rngs,
  ):
    self.words = nnx.Embed(words, width, rngs=rngs)
    shape = (length, width)
    self.position = nnx.Param(0.01 * jax.random.normal(rngs.params(), shape))
    self.layers = _layers(width, depth, head, rngs)
    self.norm = norm(width, EPS, rngs)
    self.out = nnx.Linear(width, embedding, use_bias=False, rngs=rngs)

  def __call__(self, tokens: Array) -> Array:
    """[b, length] -> [b, embedding]; what follows the end has no effect."""
    length = tokens.shape[1]
    h = self.words(tokens) + self.position[...][:length]
    h = self.layers(h, jnp.tri(length, dtype=bool))
    # The end of a caption is the word with the largest number.
    h = h[jnp.arange(len(h)), jnp.argmax(tokens, -1)]
    return self.out(self.norm(h))


def _layers(width: int, depth: int, head: int, rngs: nnx.Rngs) -> nnx.Module:
  return make_layers(
    width,
    width // head,
    depth,
    activation=quick_gelu,
    eps=EPS,
    scaled=False,
    rngs=rngs,
  )


def quick_gelu(x: Array) -> Array:
  """x σ(1.702 x), with which CLIP was trained."""
  return x * nnx.sigmoid(1.702 * x)
