import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import B, changed, inputs, make, run, unlabelled

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.unet import UNet
from flowdistill.training.named_arrays import by_name

SMALL = {'ch_mult': (1,), 'attention': 0}


@pytest.mark.parametrize(
  ('shape', 'options', 'millions'),
  [
    ((28, 28, 1), {}, 2.1),
    ((64, 64, 3), {'width': 64}, 7.8),
    ((128, 128, 3), {'width': 64, 'ch_mult': (1, 2, 2, 2)}, 10.9),
  ],
)
def test_it_is_light(shape, options, millions):
  spec = DataSpec.labelled(shape, 10)
  net = nnx.eval_shape(lambda: UNet(spec, **options, rngs=nnx.Rngs(0)))
  sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(net))]
  assert round(sum(sizes) / 1e6, 1) == millions


def test_du_dt_of_an_untrained_network_is_of_order_one():
  """All is drawn to keep variances, what starts at zero too, but for of_s."""
  graph, params = nnx.split(nnx.eval_shape(lambda: make('unet', **SMALL)))
  rng = np.random.default_rng(0)

  def drawn(path, w):
    if 'kernel' not in path or 'of_s' in path:
      return np.full(w.shape, 'scale' in path, np.float32)
    scale = np.prod(w.shape[:-1]) ** -0.5
    return (scale * rng.normal(size=w.shape)).astype(np.float32)

  params = changed(params, drawn)
  x, t, s, cond = inputs('unet')
  u, du_dt = jax.jvp(
    lambda t: run(graph, params, x, t, s, cond), (t,), (jnp.ones(B),)
  )
  assert 0.3 < jnp.std(u) < 3
  assert 0.3 < jnp.std(du_dt) < 10


def test_attention_is_at_low_heights_and_in_the_middle():
  def places(attention):
    net = nnx.eval_shape(lambda: make('unet', attention=attention))
    paths = by_name(nnx.state(net))
    return {p.partition('.attention')[0] for p in paths if '.attention' in p}

  low = {'down.1.steps.0', 'up.0.steps.0', 'up.0.steps.1'}
  high = {'down.0.steps.0', 'up.1.steps.0', 'up.1.steps.1'}
  assert places(0) == {'middle.0'}
  assert places(2) == {'middle.0'} | low
  assert places(16) == {'middle.0'} | low | high


def test_a_normalisation_has_eight_groups():
  net = nnx.eval_shape(lambda: UNet(DataSpec((8, 8, 1)), rngs=nnx.Rngs(0)))
  block = net.down[1].steps[0].block
  groups = {net.last.layers[0].groups, block.norm_in.groups}
  assert groups == {8}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'width': 0}, 'width = 0 must be at least 1'),
    ({'width': 12}, 'width = 12 must be a multiple of 8'),
    ({'res_blocks': 0}, 'res_blocks = 0 must be at least 1'),
    ({'head_channels': 0}, 'head_channels = 0 must be at least 1'),
    ({'text_width': 8}, 'text_width = 8 has no effect: these examples have'),
    ({'ch_mult': ()}, 'ch_mult = () must be multiples, each at least 1'),
    ({'ch_mult': (1, 1, 1)}, 'ch_mult = (1, 1, 1) halves the image 2 times, '),
    ({'attention': -1}, 'attention = -1 must be a height, 0 for none'),
    ({'dropout': 1.0}, 'dropout = 1.0 must lie in [0, 1)'),
    ({'features': -1}, 'features = -1 must be at least 1'),
  ],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    nnx.eval_shape(lambda: make('unet', **options))


@pytest.mark.parametrize('ch_mult', [(1,), (1, 2, 2)])
def test_features_of_a_hidden_layer_do_not_change_the_answer(ch_mult):
  """They have the places of the level above the lowest."""
  options = {'ch_mult': ch_mult, 'spec': DataSpec((8, 8, 2))}
  plain = make('unet', **options)
  both = make('unet', **options, features=5)
  shared = by_name(nnx.state(plain))
  own = by_name(nnx.state(both))
  assert {n for n in own if n not in shared} == {
    f'projector.layers.{k}.{name}'
    for k in range(3)
    for name in ('bias', 'kernel')
  }
  graph, params = nnx.split(plain)
  params = changed(params, lambda path, w: jnp.ones_like(w) / w.size**0.5)
  nnx.update(both, params)
  graph_of_both, params_of_both = nnx.split(both)
  x = jax.random.normal(jax.random.key(0), (B, 8, 8, 2))
  t = s = jnp.full(B, 0.5)

  @jax.jit
  def answers(params):
    return nnx.merge(graph_of_both, params).aligned(x, t, s, {})

  answer, features = answers(params_of_both)
  expected = run(graph, params, x, t, s, {})
  np.testing.assert_allclose(answer, expected, atol=1e-5)
  assert jnp.std(answer) > 0.01
  asked = jax.jit(jax.grad(lambda p: jnp.sum(answers(p)[1])))(params_of_both)
  used = {n for n, g in by_name(asked).items() if jnp.any(g != 0)}
  assert {n.split('.')[0] for n in used} >= {'first', 'down', 'up', 'projector'}
  assert not {n for n in used if n.startswith(('up.1', 'up.2', 'last'))}
  side = 8 // 2 ** max(len(ch_mult) - 2, 0)
  assert features.shape == (B, side, side, 5)
  with pytest.raises(ValueError, match=r'network\.features = 0 must be the'):
    plain.aligned(x, t, s, {})


def test_it_takes_images():
  with pytest.raises(ValueError, match=r'images \[h, w, c\], not \[2\]'):
    make('unet', spec=unlabelled('mlp'))
