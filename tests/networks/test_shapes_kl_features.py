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
  assert found.shape == (N, 8, 8, features.KINDS + features.COLOURS + 1)
  kind, colour = found[..., :8], found[..., 8:16]
  none = found[..., 16]
  np.testing.assert_allclose(kind.sum(-1) + none, 1, atol=1e-5)
  np.testing.assert_allclose(colour.sum(-1) + none, 1, atol=1e-5)
  assert found.min() >= 0


def test_they_know_what_is_in_a_cell(drawn):
  model = load(features.WEIGHTS)
  kind, colour = training.accuracies(model, *drawn)
  assert kind > 0.94
  assert colour > 0.999
  none = np.asarray(model(drawn[0]))[..., -1] > 0.5
  assert (none == (drawn[1] == features.KINDS)).mean() > 0.98


def test_cells_are_those_of_the_pictures():
  """The only shape of a picture is where its pixels are not the background."""
  source = shapes(size=32, examples=60, split='train')
  assert (len(KINDS), len(COLOURS)) == (features.KINDS, features.COLOURS)
  for i in range(0, 60, 6):
    scene, x = source.scene(i), source[i]['x0']
    kind, colour = training.cells(source, i)
    (shape,) = scene.shapes
    assert set(np.unique(kind)) == {[*KINDS].index(shape.kind), 8}
    here = kind < 8
    assert set(colour[here]) == {[*COLOURS].index(shape.colour)}
    shown = np.abs(x - x[0, 0]).max(-1) > 0.1
    of_cells = shown.reshape(8, 4, 8, 4).mean((1, 3))
    assert of_cells[here].mean() > 0.5
    assert of_cells[~here].mean() < 0.1


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
  assert colour > 0.9
  assert jax.tree.leaves(nnx.state(load(path)))[0].dtype == np.float32
