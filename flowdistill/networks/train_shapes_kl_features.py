"""Trains the features of latents of captioned shapes and writes their weights.

  python -m flowdistill.networks.train_shapes_kl_features

The network is asked for the kind and the colour of the shape that is nearest to
each cell, which the generator knows of its pictures; it sees those of the
training split alone. Near is the middle of a cell to the circle about a shape.

Of other pictures of that split the shipped weights know the kind and the
colour in 98 % of the cells; of the held-out combinations the kind in 82 % and
the colour in 95 %, as they have learnt which kinds a colour does not have. It
took three CPU minutes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flowdistill.build.spaces import shapes_kl
from flowdistill.datasets.shape_kinds import COLOURS, KINDS
from flowdistill.datasets.shapes import Shapes, shapes
from flowdistill.networks.shapes_kl_features import WEIGHTS, ShapesKLFeatures
from flowdistill.networks.shipped_weights import load_weights, save_weights

Array = jax.Array
SIZE, CELLS = 32, 8
EXAMPLES, HELD_OUT = 24_000, 2000
STEPS, BATCH, RATE = 4000, 64, 2e-3
NOISE = 0.1  # standard deviation of what is added to latents


def main() -> None:
  save_weights(train(*drawn('train', EXAMPLES)), WEIGHTS)
  model = load_weights(lambda: ShapesKLFeatures(rngs=nnx.Rngs(0)), WEIGHTS)
  for seed, split in ((1, 'train'), (0, 'validation')):
    kind, colour = accuracies(model, *drawn(split, HELD_OUT, seed))
    print(f'{split}, other pictures: kind {kind:.4f}, colour {colour:.4f}')


def drawn(
  split: str, examples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Latents of pictures of a split, and the kind and colour in each cell."""
  source = shapes(size=SIZE, examples=examples, seed=seed, split=split)
  assert isinstance(source, Shapes)  # it has no text
  space = shapes_kl((SIZE, SIZE, 3))
  parts = np.array_split(np.arange(examples), max(1, examples // 500))
  latents = [np.asarray(space.encode(source[part]['x0'])) for part in parts]
  kinds, colours = zip(
    *(cells(source, i) for i in range(examples)), strict=True
  )
  return np.concatenate(latents), np.stack(kinds), np.stack(colours)


def cells(source: Shapes, i: int) -> tuple[np.ndarray, np.ndarray]:
  """The numbers of the nearest shape's kind and colour in each cell [8, 8]."""
  shapes = source.scene(i).shapes
  middle = (np.arange(CELLS) + 0.5) / CELLS
  apart = [
    np.hypot(middle[:, None] - s.y, middle - s.x) - s.radius for s in shapes
  ]
  kind = np.asarray([[*KINDS].index(s.kind) for s in shapes])
  colour = np.asarray([[*COLOURS].index(s.colour) for s in shapes])
  nearest = np.argmin(apart, 0)
  return kind[nearest], colour[nearest]


def loss(
  model: ShapesKLFeatures, z: Array, kind: Array, colour: Array
) -> Array:
  """Cross-entropies of the kind and of the colour."""
  of_kind, of_colour = model.logits(z)
  cross = optax.softmax_cross_entropy_with_integer_labels
  return jnp.mean(cross(of_kind, kind) + cross(of_colour, colour))


def train(
  latents: np.ndarray, kinds: np.ndarray, colours: np.ndarray
) -> ShapesKLFeatures:
  """Adam with cosine decay, on latents with a little noise."""
  model = ShapesKLFeatures(rngs=nnx.Rngs(0))
  rate = optax.warmup_cosine_decay_schedule(0, RATE, 100, STEPS)
  optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer, z, kind, colour, key):
    z = z + NOISE * jax.random.normal(key, z.shape)
    value, gradient = nnx.value_and_grad(loss)(model, z, kind, colour)
    optimizer.update(model, gradient)
    return value

  draw = np.random.default_rng(0)
  for k in range(STEPS):
    rows = draw.integers(0, len(latents), BATCH)
    z, kind, colour = latents[rows], kinds[rows], colours[rows]
    value = step(model, optimizer, z, kind, colour, jax.random.key(k))
    if k % 100 == 99:
      print(f'{k + 1}/{STEPS}, loss {float(value):.4f}', flush=True)
  return model


def accuracies(
  model: ShapesKLFeatures,
  latents: np.ndarray,
  kinds: np.ndarray,
  colours: np.ndarray,
) -> tuple[float, float]:
  """In which share of the cells the kind and the colour are right."""
  found = [np.asarray(logits) for logits in model.logits(jnp.asarray(latents))]
  kind, colour = (logits.argmax(-1) for logits in found)
  return (
    float((kind == kinds).mean()),
    float((colour == colours).mean()),
  )


if __name__ == '__main__':
  main()
