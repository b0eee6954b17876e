"""What the features of latents of captioned shapes know."""

import jax
import numpy as np
import pytest
from flax import nnx

from flowdistill.datasets.shape_kinds import COLOURS, KINDS
from flowdistill.datasets.shapes import shapes
from flowdistill.networks import shapes_kl_features as features
from flowdistill.networks import train_shapes_kl_features as training
from flowdistill.networks.shapes_kl_features import ShapesKLFeatures
from flowdistill.networks.shipped_weights import load_weights

N = 300


def load(path):
  return load_weights(lambda: ShapesKLFeatures(rngs=nnx.Rngs(0)), path)


@pytest.fixture(scope='module')
def drawn():
  """Other pictures of the split that it was trained on."""
  return training.drawn('train', N, seed=2)


def test_they_are_probabilities(drawn):
  found = np.asarray(load(features.WEIGHTS)(drawn[0]))
  assert found.shape == (N, 8, 8, features.KINDS + features.COLOURS)
  for part in np.split(found, [features.KINDS], axis=-1):
    np.testing.assert_allclose(part.sum(-1), 1, atol=1e-5)
  assert found.min() >= 0


def test_they_know_which_shape_is_nearest(drawn):
  model = load(features.WEIGHTS)
  kind, colour = training.accuracies(model, *drawn)
  assert kind > 0.96
  assert colour > 0.96


def test_cells_are_those_of_the_pictures():
  """The pixels at a cell that have a shape's colour are of the nearest one."""
  source = shapes(size=32, examples=60, split='train')
  assert (len(KINDS), len(COLOURS)) == (features.KINDS, features.COLOURS)
  for i in range(60):
    shapes_here = source.scene(i).shapes
    kind, colour = training.cells(source, i)
    pixels = np.round((source[i]['x0'] + 1) * 127.5).astype(int)
    for shape in shapes_here:
      flat = (pixels == COLOURS[shape.colour]).all(-1)
      here = flat.reshape(8, 4, 8, 4).all((1, 3))
      alike = [s for s in shapes_here if s.colour == shape.colour]
      kinds = {[*KINDS].index(s.kind) for s in alike}
      assert set(kind[here]) <= kinds
      assert set(colour[here]) <= {[*COLOURS].index(shape.colour)}
      assert here.any() or shape.kind not in ('square', 'circle')
    if len(shapes_here) == 1:
      assert len({*kind.flat}) == len({*colour.flat}) == 1


def test_other_latents_are_refused():
  model = load(features.WEIGHTS)
  with pytest.raises(ValueError, match=r'\[b, h, w, 4\], not \[2, 8, 8, 16\]'):
    model(np.zeros((2, 8, 8, 16)))


@pytest.mark.slow
def test_a_short_training_writes_what_is_read(tmp_path, monkeypatch, capsys):
  path = tmp_path / 'short.npz'
  short = {'WEIGHTS': path, 'EXAMPLES': 600, 'HELD_OUT': 60, 'STEPS': 200}
  for name, value in short.items():
    monkeypatch.setattr(training, name, value)
  training.main()
  said = capsys.readouterr().out.splitlines()
  assert said[1].startswith('200/200, loss ')
  kind, colour = training.accuracies(
    load(path), *training.drawn('train', 60, seed=1)
  )
  assert said[2] == (
    f'train, other pictures: kind {kind:.4f}, colour {colour:.4f}'
  )
  assert colour > 0.8
  assert jax.tree.leaves(nnx.state(load(path)))[0].dtype == np.float32
