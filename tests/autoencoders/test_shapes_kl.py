"""What ships as an autoencoder of flat pictures keeps what they show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.autoencoders import train_shapes_kl
from flowdistill.autoencoders.kl import AutoencoderKL
from flowdistill.autoencoders.shapes_kl import SIZES
from flowdistill.autoencoders.train_shapes_kl import moments, normalise
from flowdistill.build.spaces import kl, shapes_kl
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.shapes import shapes
from flowdistill.metrics.geneval import judge, scores

N = 240


@pytest.fixture(scope='module')
def pictures():
  """Of combinations that it was not trained on."""
  return shapes(size=32, split='validation', examples=N, seed=7)


@pytest.fixture(scope='module')
def latents(pictures):
  return shapes_kl((32, 32, 3)).encode(pictures[np.arange(N)]['x0'])


def test_latents_are_few_and_have_variance_one(latents):
  assert latents.shape == (N, 8, 8, 4)
  spread = latents.std((0, 1, 2))
  np.testing.assert_allclose(spread, 1, atol=0.1)
  assert np.abs(latents.mean((0, 1, 2))).max() < 0.2


def test_what_is_decoded_shows_the_same(pictures, latents):
  x = pictures[np.arange(N)]['x0']
  again = shapes_kl((32, 32, 3)).decode(latents)
  assert np.mean((again - x) ** 2) < 0.0018
  prompts = [pictures.prompts[i] for i in range(N)]
  pairs = zip(prompts, again, strict=True)
  found = [
    judge(p, pictures.detect(np.clip(y, -1, 1))).correct for p, y in pairs
  ]
  assert scores([p.tag for p in prompts], found)['overall'] > 0.97


def test_latents_carry_little_that_no_picture_shows(pictures):
  """Its divergence, in nats; with a tenth of its weight it is 670."""
  mean, std = shapes_kl((32, 32, 3)).moments(pictures[np.arange(N)]['x0'])
  divergence = (mean**2 + std**2 - 1) / 2 - jnp.log(std)
  assert 200 < jnp.sum(divergence, (1, 2, 3)).mean() < 320


def test_normalising_changes_nothing_that_is_decoded():
  model = AutoencoderKL(SIZES, 3, rngs=nnx.Rngs(0))
  x = np.asarray(jax.random.randint(jax.random.key(0), (16, 8, 8, 3), 0, 256))
  before, spread = moments(model, to_unit(x))
  expected = model.decode(before)
  normalise(model, x.astype(np.uint8))
  after, new_spread = moments(model, to_unit(x))
  np.testing.assert_allclose(jnp.std(after, (0, 1, 2)), 1, atol=1e-4)
  np.testing.assert_allclose(model.decode(after), expected, atol=1e-5)
  np.testing.assert_allclose(after / new_spread, before / spread, rtol=1e-3)


@pytest.mark.slow
def test_a_short_training_writes_what_the_space_reads(
  tmp_path, monkeypatch, capsys
):
  path = tmp_path / 'short.npz'
  short = {'WEIGHTS': path, 'EXAMPLES': 64, 'HELD_OUT': 32, 'STEPS': 100}
  for name, value in short.items():
    monkeypatch.setattr(train_shapes_kl, name, value)
  train_shapes_kl.main()
  assert '100/100, loss 0.' in (said := capsys.readouterr().out)
  x = shapes(size=32, examples=32, split='validation')[np.arange(32)]['x0']
  space = kl((32, 32, 3), path=str(path), sizes=SIZES, scaling_factor=1.0)
  error = np.mean((space.decode(space.encode(x)) - x) ** 2)
  assert error == pytest.approx(float(said.split()[-1]), rel=0.02)
  assert error < np.var(x) / 2


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((32, 32, 1), r'shapes_kl takes images \[h, w, 3\], not \[32, 32, 1\]'),
    ((3,), r'shapes_kl takes images \[h, w, 3\], not \[3\]'),
    ((30, 32, 3), '30 x 32, must be multiples of 4'),
  ],
)
def test_other_pictures_are_refused(shape, message):
  with pytest.raises(ValueError, match=message):
    shapes_kl(shape)
