"""SD3: its sizes, its positions and times, and what it refuses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import tiny_sd3
from networks.tiny import changed, size

from flowdistill.config.tiny import TINY_NETWORKS
from flowdistill.flow.spec import Condition
from flowdistill.networks import NETWORKS
from flowdistill.networks.sd3 import SD3
from flowdistill.networks.sd3_config import SD3Config
from flowdistill.networks.sd3_positions import Table, crop
from flowdistill.training.named_arrays import by_name

PUBLISHED = {
  'medium': (
    {'num_layers': 24, 'num_attention_heads': 24, 'pos_embed_max_size': 192},
    2_028_328_000,
    56_623_104,
  ),
  'medium_3_5': (
    {
      'num_layers': 24,
      'num_attention_heads': 24,
      'pos_embed_max_size': 384,
      'dual_attention_layers': tuple(range(13)),
      'qk_norm': 'rms_norm',
    },
    2_243_171_520,
    226_492_416,
  ),
  'large_3_5': (
    {
      'num_layers': 38,
      'num_attention_heads': 38,
      'pos_embed_max_size': 192,
      'qk_norm': 'rms_norm',
    },
    8_056_627_520,
    89_653_248,
  ),
}
"""Options, parameters, and entries of the table of positions."""
REST = {'joint_attention_dim': 4096, 'pooled_projection_dim': 2048}


@pytest.mark.parametrize(
  'name',
  [
    'medium_3_5',
    *(pytest.param(n, marks=pytest.mark.slow) for n in ('medium', 'large_3_5')),
  ],
)
def test_it_has_the_parameters_that_were_published(name):
  config, parameters, table = PUBLISHED[name]
  text, pooled = Condition((333, 4096)), Condition((2048,))
  data = tiny_sd3.spec((128, 128, 16), text=text, pooled=pooled)
  _, params = tiny_sd3.built({**config, **REST}, data=data)
  leaves = [leaf for _, leaf in nnx.to_flat_state(params)]
  counts = [
    sum(leaf.get_value().size for leaf in leaves if isinstance(leaf, Table)),
    sum(leaf.get_value().size for leaf in leaves),
  ]
  assert counts == [table, parameters + table]


def drawn(config=tiny_sd3.SMALL, **options):
  """(graph, params) with no parameter at zero."""
  graph, params = tiny_sd3.built(config, **options)
  rng = np.random.default_rng(0)

  def draw(path, w):
    del path
    return (0.3 * rng.normal(size=w.shape)).astype(np.float32)

  return graph, changed(params, draw)


def test_blocks_that_follow_each_other_are_one_stack():
  config = SD3Config(num_layers=6, dual_attention_layers=(1, 2, 5))
  assert config.runs == [
    (False, False, 1),
    (True, False, 2),
    (False, False, 2),
    (True, True, 1),
  ]
  assert SD3Config(num_layers=1).runs == [(False, True, 1)]
  paths = tiny_sd3.shapes(tiny_sd3.options_of('medium_3_5'))
  second = {p.split('.')[0] for p in paths if '.second.project.' in p}
  assert second == {'blocks_0'}
  assert paths['blocks_0.each.picture.modulation.kernel'] == (2, 16, 9 * 16)
  assert paths['blocks_1.each.picture.modulation.kernel'] == (1, 16, 6 * 16)
  assert paths['blocks_2.each.text.modulation.kernel'] == (1, 16, 2 * 16)
  last = {p for p in paths if p.startswith('blocks_2.each.text.')}
  assert not any(part in path for path in last for part in ('out', 'up'))


def test_a_grid_takes_the_centre_of_the_table():
  table = np.arange(7 * 7)[None, :, None]
  found = np.asarray(crop(table, (2, 4), 7))[0, :, 0]
  wanted = np.arange(49).reshape(7, 7)[2:4, 1:5]  # 2.5 rows are above: 2
  np.testing.assert_array_equal(found, wanted.reshape(-1))


def test_positions_do_not_decay():
  _, params = drawn()
  decayed = changed(params, lambda _, w: 0.5 * w)
  after = by_name(SD3.project(decayed, params))
  for path, w in by_name(params).items():
    factor = 1 if path == 'position' else 0.5
    np.testing.assert_array_equal(after[path], factor * w, err_msg=path)


def test_what_it_answers_follows_from_its_times():
  assert SD3.signature == 'velocity'
  net = nnx.eval_shape(lambda: tiny_sd3.make(times={'target_time': 'sum'}))
  assert net.signature == 'average'


def answer(net, x, t, s, cond):
  return nnx.merge(*net)(x, t, s, cond)


def taken(params, other):
  """Parameters, those of another network where it has them."""
  own = dict(nnx.to_flat_state(other))
  return changed(
    params, lambda path, w: own[path].get_value() if path in own else w
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('form', 'kept'), [('scaled_gap', 'random'), ('sum', 'zero')]
)
def test_at_s_equal_t_a_student_is_its_teacher_to_the_last_bit(form, kept):
  one = tiny_sd3.options_of('one_block')
  teacher = drawn(one)
  graph, params = drawn(one, times={'target_time': form})
  params = taken(params, teacher[1])
  if kept == 'zero':
    params = changed(params, lambda path, w: w * ('of_s' not in path))
  x, t, s, cond = tiny_sd3.inputs()
  v = answer(teacher, x, t, t, cond)
  np.testing.assert_array_equal(answer((graph, params), x, t, t, cond), v)
  np.testing.assert_array_equal(answer(teacher, x, t, s, cond), v)
  changes = size(answer((graph, params), x, t, s, cond) - v) > 1e-4
  assert changes == (kept == 'random')


@pytest.mark.slow
def test_padding_takes_part_unless_it_is_masked():
  mask = Condition((tiny_sd3.TEXT,), 'bool', False)
  one, data = tiny_sd3.options_of('one_block'), tiny_sd3.spec(mask=mask)
  x, t, _, cond = tiny_sd3.inputs()
  real = np.ones((2, tiny_sd3.TEXT), bool)
  real[0, -1] = False
  other = cond['text'].copy()
  other[0, -1] = 1.0
  for masked in (True, False):
    net = drawn(one, data=data, masked=masked)
    first, second = (
      answer(net, x, t, t, {**cond, 'mask': real, 'text': text})
      for text in (cond['text'], other)
    )
    moved = [size(first[i] - second[i]) for i in (0, 1)]
    assert moved[1] == 0
    assert (moved[0] < 1e-6) == masked
    empty = {**cond, 'mask': np.zeros_like(real)}
    assert np.isfinite(answer(net, x, t, t, empty)).all()


@pytest.mark.slow
def test_every_parameter_has_an_effect():
  config = tiny_sd3.options_of('medium_3_5') | {
    'num_layers': 2,
    'dual_attention_layers': (0,),
  }
  options = {'times': {'target_time': 'scaled_gap'}, 'scalars': ('guidance',)}
  graph, params = drawn(config, **options)
  x, t, s, cond = tiny_sd3.inputs()
  cond['guidance'] = jnp.array([1.0, 2.0])

  def loss(params):
    return jnp.square(answer((graph, params), x, t, s, cond)).sum()

  grads = by_name(jax.jit(jax.grad(loss))(params))
  assert not np.any(grads.pop('position'))
  for path, gradient in grads.items():
    # The text of the last block asks nothing, though its files have queries.
    unused = path.startswith('blocks_1.each.text.project.query')
    assert (size(gradient) > 1e-6) != unused, path


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'dual_attention_layers': (0, 2)},
      'dual_attention_layers = (0, 2) must be different numbers of blocks, '
      '0 ... 1 for num_layers = 2',
    ),
    ({'dual_attention_layers': (1, 1)}, 'dual_attention_layers = (1, 1) must'),
    ({'num_layers': 0}, 'num_layers = 0 must be at least 1'),
    (
      {'pos_embed_max_size': 4},
      'pos_embed_max_size = 4 must be at least 5: latents of 10 x 6 have '
      '5 x 3 patches',
    ),
    ({'patch_size': 4}, 'patch_size = 4 does not divide 10 x 6'),
    ({'in_channels': 16}, 'in_channels = 16 must be 3, as of these data'),
    ({'out_channels': 6}, 'out_channels = 6 must be 3, as of these data'),
    ({'joint_attention_dim': 9}, 'joint_attention_dim = 9 must be 12, as of'),
    ({'pooled_projection_dim': 9}, 'pooled_projection_dim = 9 must be 10, as'),
    (
      {'caption_projection_dim': 12},
      'caption_projection_dim = 12 must be 16, attention_head_dim times num_',
    ),
    ({'qk_norm': 'layer_norm'}, "qk_norm = 'layer_norm' must be None or 'rms"),
    (
      {'attention_head_dim': 7, 'caption_projection_dim': 14},
      'attention_head_dim = 7 must make a width that 4 divides',
    ),
  ],
)
def test_options_that_cannot_be_are_refused(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    nnx.eval_shape(lambda: tiny_sd3.make({**tiny_sd3.SMALL, **options}))


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (
      tiny_sd3.spec(pooled=None),
      "examples have no 'pooled': they must have ",
    ),
    (tiny_sd3.spec(text=None), "examples have no 'text': they must have capti"),
    (tiny_sd3.spec(score=Condition()), "sd3 takes no condition 'score'"),
    (tiny_sd3.spec((16,)), r'sd3 takes images [h, w, c], not [16]'),
    (
      tiny_sd3.spec(mask=Condition((9,), 'bool')),
      "condition 'mask' has shape [9]; it must be [n] of 'text' [n, d]",
    ),
  ],
)
def test_data_that_do_not_fit_are_refused(data, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    nnx.eval_shape(lambda: tiny_sd3.make(data=data))


def test_other_latents_than_those_of_the_data_are_refused_if_too_large():
  graph, params = tiny_sd3.built()
  x, t, s, cond = tiny_sd3.inputs(sides=(16, 18))
  with pytest.raises(ValueError, match='pos_embed_max_size = 8 must be at lea'):
    jax.eval_shape(lambda p: answer((graph, p), x, t, s, cond), params)
  x, t, s, cond = tiny_sd3.inputs(sides=(16, 4))
  u = jax.eval_shape(lambda p: answer((graph, p), x, t, s, cond), params)
  assert u.shape == x.shape


def test_a_tiny_one_takes_the_sizes_of_the_data():
  tiny = {k: v for k, v in TINY_NETWORKS['sd3'].items() if v is not None}
  net = nnx.eval_shape(lambda: tiny_sd3.make(tiny))
  assert isinstance(net, NETWORKS['sd3'])
