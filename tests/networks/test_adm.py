import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import CLASSES, B, inputs, make, run, trained, unlabelled

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.adm import ADM
from flowdistill.training.named_arrays import by_name


@pytest.mark.parametrize(
  ('ch_mult', 'count'),
  [
    ((1, 2, 2, 4), 80_685_315),
    pytest.param((1, 2, 2, 2), 44_685_827, marks=pytest.mark.slow),
  ],
)
def test_it_has_the_parameters_of_the_original(ch_mult, count):
  """And besides them only the embedding of the second time.

  The counts are those of SlimFlow's published PyTorch code, built at these
  sizes for 1000 classes of 64 x 64 x 3; its paper rounds them to 80.7 M and
  44.7 M.
  """
  net = nnx.eval_shape(
    lambda: ADM(
      DataSpec.labelled((64, 64, 3), 1000), ch_mult=ch_mult, rngs=nnx.Rngs(0)
    )
  )
  sizes = {path: leaf.size for path, leaf in by_name(nnx.state(net)).items()}
  second = sum(n for path, n in sizes.items() if 'of_s' in path)
  assert sum(sizes.values()) - second == count
  assert second == 2 * 512 * 513


@pytest.mark.slow
def test_the_null_label_adds_nothing():
  graph, params = trained('adm')
  x, t, s, _ = inputs('adm')
  u = run(graph, params, x, t, s, {'label': jnp.full(B, CLASSES)})
  plain, _ = nnx.split(
    nnx.eval_shape(lambda: make('adm', spec=unlabelled('adm')))
  )
  flat = [(p, w) for p, w in nnx.to_flat_state(params) if p[0] != 'label']
  without = run(plain, nnx.from_flat_state(flat), x, t, s, {})
  np.testing.assert_allclose(u, without, atol=1e-5)


def test_attention_follows_each_block_and_is_in_the_middle():
  def places(attention):
    net = nnx.eval_shape(lambda: make('adm', attention=attention))
    paths = by_name(nnx.state(net))
    return {p.partition('.attention')[0] for p in paths if '.attention' in p}

  def both(level):
    return {f'up.{level}.steps.0', f'up.{level}.steps.1'}

  middle = {'middle.0'}
  assert places(()) == middle
  assert places((4,)) == middle | {'down.0.steps.0'} | both(1)
  assert places((2,)) == middle | {'down.1.steps.0'} | both(0)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'nf': 0}, 'nf = 0 must be at least 1'),
    ({'nf': 3}, 'nf and ch_mult make a layer of '),
    ({'res_blocks': 0}, 'res_blocks = 0 must be at least 1'),
    ({'head_channels': 0}, 'head_channels = 0 must be at least 1'),
    ({'head_channels': 5}, 'head_channels = 5 makes 3 heads of a layer of 16'),
    ({'ch_mult': ()}, 'ch_mult = () must be multiples, each at least 1'),
    ({'ch_mult': (1, 1, 1)}, 'ch_mult = (1, 1, 1) halves the image 2 times, '),
    ({'attention': (3,)}, 'attention = (3,) must be heights of levels, which'),
    ({'dropout': 1.0}, 'dropout = 1.0 must lie in [0, 1)'),
    ({'time_scale': 0.0}, 'time_scale = 0.0 must be above 0'),
  ],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    nnx.eval_shape(lambda: make('adm', **options))


def test_it_takes_images():
  with pytest.raises(ValueError, match=r'images \[h, w, c\], not \[2\]'):
    make('adm', spec=unlabelled('mlp'))


def test_times_are_those_of_the_paper():
  """cos and sin of τ 10000 ** (-k / n), for k = 0 .. n - 1."""
  net = nnx.eval_shape(lambda: make('adm'))
  t = jnp.array([0.0, 0.3])
  angles = 16 * (1 - t)[:, None] * 10_000 ** -np.array([0, 0.25, 0.5, 0.75])
  expected = np.concatenate([np.cos(angles), np.sin(angles)], -1)
  found = jax.jit(net.times.features)(t)
  np.testing.assert_allclose(found, expected, atol=1e-5)
