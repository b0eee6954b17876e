"""How fast a transformer of words learns what belongs to which of them.

Asked directly, by a linear layer on the mean of its tokens: of captions of two
shapes, which of them is left of the other or above it; and what colour the
first of the two kinds has.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from flowdistill.datasets.shape_kinds import COLOURS, KINDS
from flowdistill.datasets.shapes import shapes
from flowdistill.datasets.texts import words
from flowdistill.metrics.geneval import TAGS
from flowdistill.networks.options import DEFAULTS
from flowdistill.networks.text import make_text, mean_of
from flowdistill.training.muon import muon

EXAMPLES, BATCH, STEPS, RATE = 12_000, 11, 300, 8e-3
WIDTH, HEADS = 128, 4
ASKED = 'position', 'color_attr'


class Asked(nnx.Module):
  """The transformer of a text, with a layer for each question."""

  def __init__(self, spec, rngs):
    self.text = make_text(
      spec, WIDTH, HEADS, depth=None, null='empty', options=DEFAULTS, rngs=rngs
    )
    self.last = nnx.List(
      [nnx.Linear(WIDTH, len(names), rngs=rngs) for names in (KINDS, COLOURS)]
    )

  def __call__(self, number, cond):
    return self.last[number](mean_of(*self.text(cond)))


def answer(scene):
  """The number of the kind, or of the colour, that is asked for."""
  one, other = scene.shapes
  if scene.tag == 'color_attr':
    first = min(scene.shapes, key=lambda shape: [*KINDS].index(shape.kind))
    return [*COLOURS].index(first.colour)
  dx, dy = other.x - one.x, other.y - one.y
  before = dx if abs(dx) > abs(dy) else dy
  return [*KINDS].index((one if before > 0 else other).kind)


def questions():
  """(spec, captions and answers of each question)."""
  source = shapes(
    examples=EXAMPLES, split='train', text=lambda c: words(c, length=16)
  )
  found = []
  for tag in ASKED:
    index = np.arange(TAGS.index(tag), EXAMPLES, len(TAGS))
    answers = np.asarray([answer(source.source.scene(int(k))) for k in index])
    found.append((source.conditions(index), answers))
  return source.spec, found


def learnt(spec, found):
  """The share of right answers to each question in the last 50 steps."""
  model = Asked(spec, nnx.Rngs(0))
  rate = optax.warmup_cosine_decay_schedule(0, RATE, 100, STEPS)
  optimizer = nnx.Optimizer(model, muon(rate), wrt=nnx.Param)

  def loss(model, batch):
    logits = [model(k, cond) for k, (cond, _) in enumerate(batch)]
    terms = [
      optax.softmax_cross_entropy_with_integer_labels(each, y).mean()
      for each, (_, y) in zip(logits, batch, strict=True)
    ]
    right = [
      jnp.mean(each.argmax(-1) == y)
      for each, (_, y) in zip(logits, batch, strict=True)
    ]
    return sum(terms), jnp.stack(right)

  @nnx.jit
  def step(model, optimizer, batch):
    (_, right), gradient = nnx.value_and_grad(loss, has_aux=True)(model, batch)
    optimizer.update(model, gradient)
    return right

  draw, shares = np.random.default_rng(0), []
  for _ in range(STEPS):
    batch = []
    for cond, answers in found:
      rows = draw.integers(0, len(answers), BATCH)
      batch.append(({k: v[rows] for k, v in cond.items()}, answers[rows]))
    shares.append(step(model, optimizer, batch))
  return np.mean(jax.device_get(shares[-50:]), axis=0)


PARTS = {
  'rotary positions': ('rotate', lambda x, angles: x),
  'neighbours': ('ShortConvolution.__call__', lambda self, h, real: 0.0),
}


@pytest.mark.slow
def test_positions_and_neighbours_teach_what_belongs_to_which_word(monkeypatch):
  spec, found = questions()

  def report(what):
    shares = learnt(spec, found)
    print('{}: where {:.2f}, which colour {:.2f}'.format(what, *shares))
    return shares

  both = report('with both')
  assert min(both) > 0.95
  for name, (what, without) in PARTS.items():
    with monkeypatch.context() as patch:
      patch.setattr(f'flowdistill.networks.text_layers.{what}', without)
      report(f'without {name}')
  for what, without in PARTS.values():
    monkeypatch.setattr(f'flowdistill.networks.text_layers.{what}', without)
  assert np.mean(report('without either')) < np.mean(both) - 0.1
