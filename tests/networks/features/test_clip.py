"""CLIP against transformers' on random weights, and what it ignores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.features.loading import (
  abstract,
  answers,
  assert_close,
  filled,
  of_torch,
  shapes_of,
)

from flowdistill.convert import clip as names
from flowdistill.networks.features.clip import CLIP, MEAN, STD, quick_gelu

TINY = {
  'width': 24,
  'depth': 2,
  'patch': 4,
  'side': 3,
  'head': 8,
  'text_width': 16,
  'text_depth': 2,
  'embedding': 10,
  'words': 30,
  'length': 7,
}
BASE = {
  'width': 768,
  'depth': 12,
  'patch': 32,
  'side': 7,
  'text_width': 512,
  'embedding': 512,
}
LARGE = {
  'width': 1024,
  'depth': 24,
  'patch': 14,
  'side': 16,
  'text_width': 768,
  'embedding': 768,
}
TOKENS = np.array([[28, 3, 5, 29, 29, 29, 29], [28, 1, 2, 3, 4, 5, 29]])


def make(options):
  return CLIP(**options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
  ('options', 'count'), [(BASE, 151_277_313), (LARGE, 427_616_513)]
)
def test_number_of_parameters(options, count):
  """OpenAI's."""
  _, params = abstract(lambda: make(options))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def original(options):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  head = options.get('head', 64)

  def tower(width, depth):
    return {
      'hidden_size': width,
      'intermediate_size': 4 * width,
      'num_hidden_layers': depth,
      'num_attention_heads': width // head,
    }

  words = options.get('words', 49408)
  config = transformers.CLIPConfig(
    text_config={
      **tower(options['text_width'], options.get('text_depth', 12)),
      'vocab_size': words,
      'max_position_embeddings': options.get('length', 77),
      'projection_dim': options['embedding'],
      'bos_token_id': words - 2,
      'eos_token_id': words - 1,
    },
    vision_config={
      **tower(options['width'], options['depth']),
      'patch_size': options['patch'],
      'image_size': options['patch'] * options['side'],
      'projection_dim': options['embedding'],
    },
    projection_dim=options['embedding'],
  )
  return transformers.CLIPModel(config).eval()


@pytest.mark.parametrize(
  'options',
  [
    pytest.param(TINY, id='tiny'),
    pytest.param(BASE, id='base', marks=pytest.mark.slow),
  ],
)
def test_it_is_transformers(options):
  torch = pytest.importorskip('torch')
  theirs = original(options)
  graph, params = abstract(lambda: make(options))
  weights = names.from_torch(of_torch(theirs), shapes_of(params))
  params = filled(params, weights)
  side = options['patch'] * options['side']
  x = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype('f4')
  normal = (x / 255 - np.float32(MEAN)) / np.float32(STD)
  tokens = TOKENS + options.get('words', 49408) - 30
  with torch.no_grad():
    normal = torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())
    found = theirs(torch.from_numpy(tokens), normal)
  image = answers(graph, params, x)['image']
  text = answers(graph, params, tokens, method='text')['text']
  # Theirs are normalised.
  for ours, its in ((image, found.image_embeds), (text, found.text_embeds)):
    assert_close(ours / np.linalg.norm(ours, axis=-1, keepdims=True), its)
  assert np.linalg.norm(image, axis=-1).min() > 0.1


@pytest.mark.slow
def test_what_follows_the_end_of_a_caption_has_no_effect():
  graph, params = nnx.split(make(TINY))
  padded = TOKENS.copy()
  padded[0, 4:] = 0  # as OpenAI pads
  found = answers(
    graph, params, np.concatenate([TOKENS, padded]), method='text'
  )
  np.testing.assert_allclose(found['text'][2:], found['text'][:2], atol=1e-6)
  assert np.abs(found['text'][0] - found['text'][1]).max() > 1e-3


def test_images_of_another_size_are_refused():
  graph, params = abstract(lambda: make(TINY))
  x = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  with pytest.raises(ValueError, match='4 x 4 patches; .* for 3 x 3'):
    jax.eval_shape(lambda params, x: nnx.merge(graph, params)(x), params, x)


def test_quick_gelu():
  x = np.linspace(-3, 3, 7).astype(np.float32)
  expected = x / (1 + np.exp(-1.702 * x))
  np.testing.assert_allclose(quick_gelu(jnp.asarray(x)), expected, atol=1e-6)
