"""Trains the feature network of `frechet_emoji` and writes its weights.

  python -m flowdistill.networks.train_emoji_classifier

It needs the font and the names of the data set `emoji`. A figure is as frequent
as its pictures are under the fourth root, so that skin tones do not outnumber
everything else. A tenth of the figures, with all of their skin tones, is held
out: the shipped weights know the group of 75.9 % of those pictures, and as they
were trained the subgroup, of 102, of 31.7 %. It took 13 CPU minutes. A new run
defines a new unit of measurement, so that figures from before and after it are
not comparable.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flowdistill.datasets.emoji import emoji
from flowdistill.networks.emoji_classifier import (
  FEATURES,
  GROUPS,
  WEIGHTS,
  EmojiClassifier,
)
from flowdistill.networks.shipped_weights import save_weights
from flowdistill.networks.train_digit_classifier import (
  HALVES,
  distance_of_halves,
)

Array = jax.Array
STEPS, BATCH, RATE, DECAY = 3000, 128, 2e-3, 0.05
NOISE, SHIFT, DROPOUT = 0.1, 2, 0.3  # of the pixels, in pixels, of features


class Trained(nnx.Module):
  """The classifier, and a last layer for the subgroups that is not kept."""

  def __init__(self, subgroups: int, *, rngs: nnx.Rngs):
    self.net = EmojiClassifier(rngs=rngs)
    self.subgroup = nnx.Linear(FEATURES, subgroups, rngs=rngs)

  def loss(self, x: Array, group: Array, subgroup: Array, key: Array) -> Array:
    """Cross-entropies of both, with dropout of features."""
    h = self.net.hidden(x)
    keep = jax.random.bernoulli(key, 1 - DROPOUT, h.shape) / (1 - DROPOUT)
    cross = optax.softmax_cross_entropy_with_integer_labels
    of_group = cross(self.net.group(h * keep), group)
    return (of_group + cross(self.subgroup(h * keep), subgroup)).mean()


def main() -> None:
  groups, subgroups = emoji(), emoji(classes='subgroup')
  if groups.spec.classes != GROUPS:
    raise ValueError(f'the groups {groups.spec.classes} must be {GROUPS}')
  held_out = np.isin(groups.captions, emoji(split='validation').captions)
  model = train(groups, subgroups, ~held_out)
  x = jnp.asarray(groups[np.arange(len(groups))]['x0'])
  parts = [model.net(x[i : i + 512]) for i in range(0, len(x), 512)]
  features, logits = map(np.concatenate, zip(*parts, strict=True))
  distance = distance_of_halves(features)
  model.net.unit[...] *= jnp.sqrt(distance / HALVES)
  save_weights(model.net, WEIGHTS)
  right = logits.argmax(-1) == groups.arrays['label']
  finer = np.asarray(model.subgroup(model.net.hidden(x[held_out]))).argmax(-1)
  fine = (finer == subgroups.arrays['label'][held_out]).mean()
  print(
    f'held-out accuracy: group {right[held_out].mean():.4f}, subgroup '
    f'{fine:.4f}; unit {distance:.3f}'
  )


def train(groups: Any, subgroups: Any, kept: np.ndarray) -> Trained:
  """AdamW with cosine decay on noisy, shifted and mirrored pictures.

  Args:
    groups: all emoji, labelled by group.
    subgroups: the same, labelled by subgroup.
    kept: which of them are trained on, bool [n].
  """
  model = Trained(subgroups.spec.num_classes, rngs=nnx.Rngs(0))
  rate = optax.warmup_cosine_decay_schedule(0, RATE, 200, STEPS)
  optimizer = nnx.Optimizer(
    model, optax.adamw(rate, weight_decay=DECAY), wrt=nnx.Param
  )
  pictures = jnp.asarray(groups[np.arange(len(groups))]['x0'])
  labels = [jnp.asarray(s.arrays['label']) for s in (groups, subgroups)]
  sizes = np.bincount(groups.figures[kept])[groups.figures[kept]]
  odds = jnp.log(jnp.asarray(sizes**-0.75, jnp.float32))
  places = jnp.asarray(np.flatnonzero(kept))

  @nnx.jit
  def step(model, optimizer, key):
    key_i, key_x, key_d = jax.random.split(key, 3)
    i = places[jax.random.categorical(key_i, odds, shape=(BATCH,))]
    x, (group, subgroup) = augment(pictures[i], key_x), (y[i] for y in labels)
    gradient = nnx.grad(lambda m: m.loss(x, group, subgroup, key_d))(model)
    optimizer.update(model, gradient)

  for k in range(STEPS):
    step(model, optimizer, jax.random.key(k))
  return model


def augment(x: Array, key: Array) -> Array:
  """Mirrors, shifts by up to two pixels, and adds noise to [b, h, w, 3]."""
  key_f, key_s, key_n = jax.random.split(key, 3)
  flip = jax.random.bernoulli(key_f, 0.5, (len(x), 1, 1, 1))
  x = jnp.where(flip, x[:, :, ::-1], x)
  shifts = jax.random.randint(key_s, (len(x), 2), -SHIFT, SHIFT + 1)
  x = jax.vmap(lambda image, by: jnp.roll(image, by, (0, 1)))(x, shifts)
  return x + NOISE * jax.random.normal(key_n, x.shape)


if __name__ == '__main__':
  main()
