"""SiT weights under the names of PyTorch and of Flax."""

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert import CONVERTERS, sit
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.sit import SiT
from flowdistill.training.named_arrays import by_name

SIDE, CLASSES = 8, 5
RULES = CONVERTERS['sit']
SMALL = {'width': 8, 'depth': 2, 'heads': 2}
GAP = {'time': 'mean_flow'}


def built(**options):
  spec = DataSpec.labelled((SIDE, SIDE, 2), CLASSES)
  net = nnx.eval_shape(
    lambda: SiT(spec, **{**SMALL, **options}, rngs=nnx.Rngs(0))
  )
  return nnx.split(net)


def drawn(**options):
  """Their arrays, as random numbers by their names, and our shapes."""
  rng = np.random.default_rng(0)
  shapes = {path: x.shape for path, x in by_name(built(**options)[1]).items()}
  ours = {
    path: rng.normal(size=shape).astype(np.float32) / 2
    for path, shape in shapes.items()
  }
  if options.get('variance'):
    ours['last.kernel'] = unused(ours['last.kernel'])
  return RULES.to_torch(ours, SIDE), shapes


def unused(kernel):
  """A last kernel whose outputs for a variance are zero."""
  parts = kernel.reshape(len(kernel), -1, 2, 2).copy()
  parts[:, :, 1] = 0
  return parts.reshape(kernel.shape)


@pytest.mark.parametrize('options', [{}, {'variance': True}, GAP])
def test_there_and_back_to_the_byte(options):
  theirs, shapes = drawn(**options)
  ours = RULES.from_torch(theirs, shapes)
  assert set(ours) == {path for path in shapes if '.of_s.' not in path}
  back = RULES.to_torch(ours, SIDE)
  assert set(back) == set(theirs)
  for name, array in theirs.items():
    assert back[name].shape == array.shape
    assert back[name].tobytes() == array.tobytes(), name
  below = {f'ema.{name}': array for name, array in theirs.items()}
  again = RULES.from_torch(below, shapes)
  assert all(again[path].tobytes() == ours[path].tobytes() for path in ours)


def test_a_training_checkpoint_has_ema_weights_too():
  theirs, shapes = drawn()
  both = {f'model.{n}': a for n, a in theirs.items()}
  both |= {f'ema.{n}': 2 * a for n, a in theirs.items()}
  ours, ema = RULES.from_torch(both, shapes), RULES.ema_from_torch(both, shapes)
  assert ours.keys() == ema.keys()
  for path, array in ours.items():
    np.testing.assert_array_equal(ema[path], 2 * array, err_msg=path)
  assert len(RULES.wanted([*both, 'opt.state.0.exp_avg'], ema=True)) == len(
    both
  )


def test_layouts_and_names():
  theirs, shapes = drawn(patch=4, variance=True)
  ours = RULES.from_torch(theirs, shapes)
  conv = theirs['x_embedder.proj.weight']
  assert conv.shape == (8, 2, 4, 4)  # out, in, h, w
  assert ours['first.kernel'][1, 3, 0, 5] == conv[5, 0, 1, 3]
  qkv = theirs['blocks.1.attn.qkv.weight']
  assert qkv.shape == (24, 8)
  assert ours['blocks.each.qkv.kernel'][1, 3, 20] == qkv[20, 3]
  table = theirs['y_embedder.embedding_table.weight']
  assert table.shape == (CLASSES + 1, 8)
  np.testing.assert_array_equal(ours['label.embedding'], table)
  assert theirs['pos_embed'].shape == (1, 4, 8)
  assert theirs['final_layer.linear.weight'].shape == (4 * 4 * 2 * 2, 8)


def in_flax(theirs, root='params'):
  return {f'{root}.{n}': x for n, x in sit.to_flax(theirs).items()}


def test_flax_has_the_same_without_positions():
  theirs, shapes = drawn(**GAP)
  files = in_flax(theirs) | in_flax(theirs, 'ema_params')
  files['opt_state.0.mu.net.h_embedder.mlp.layers_0._flax_linear.bias'] = (
    np.zeros(8)
  )
  name = 'params.net.blocks.layers_1.adaLN_modulation.layers_1._flax_linear.'
  assert files[f'{name}kernel'].shape == (8, 48)
  assert files['params.net.x_embedder.proj.kernel'].shape == (2, 2, 2, 8)
  assert files['params.net.x_embedder.proj.bias'].shape == (8,)
  table = 'params.net.y_embedder.embedding_table._flax_embedding.embedding'
  assert files[table].shape == (CLASSES + 1, 8)
  wanted = RULES.from_torch(theirs, shapes)
  del wanted['position']
  chosen = {n: files[n] for n in RULES.wanted(files, ema=True)}
  assert len(chosen) == len(files) - 1
  for ours in (
    RULES.from_torch(chosen, shapes),
    RULES.ema_from_torch(chosen, shapes),
  ):
    assert ours.keys() == wanted.keys()
    assert all(ours[p].tobytes() == wanted[p].tobytes() for p in wanted)


def test_ports_call_the_embedding_of_the_gap_after_r():
  theirs, shapes = drawn(**GAP)
  port = {n.replace('h_embedder', 'r_embedder'): x for n, x in theirs.items()}
  assert port.keys() != theirs.keys()
  ours, same = RULES.from_torch(port, shapes), RULES.from_torch(theirs, shapes)
  assert all(ours[path].tobytes() == same[path].tobytes() for path in same)
  with pytest.raises(
    ValueError, match=r'h_embedder\..* appears twice, as r_emb.* too'
  ):
    RULES.from_torch(theirs | port, shapes)


BAD = [
  ({}, GAP, "^network.time must be 'mean_flow': these weights embed t - s"),
  (GAP, {}, r"^network.time must be 'sit' or 'repa', not 'mean_flow'"),
  (
    {'variance': True},
    {},
    r'^network.variance = True must be False: .*shape \[8, 8\]',
  ),
  (
    {},
    {'variance': True},
    r'^network.variance = False must be True: .*shape \[16, 8\]',
  ),
  ({'depth': 1}, {}, 'have blocks.1.adaLN_modulation.1.bias, and the network'),
  ({'depth': 3}, {}, r'have no blocks.2.*'),
  ({'width': 16}, {}, r'SiT have blocks.0.* of shape \[8\]; .* must be \[16\]'),
  (
    {'patch': 4},
    {},
    r'x_embedder.proj.weight of shape \[8, 2, 2, 2\]; .* 2, 4, 4\]',
  ),
]


@pytest.mark.parametrize(('ours', 'theirs', 'message'), BAD)
def test_weights_of_another_network_are_refused(ours, theirs, message):
  shapes = drawn(**ours)[1]
  with pytest.raises(ValueError, match=message):
    RULES.from_torch(drawn(**theirs)[0], shapes)


def test_what_is_missing_or_has_another_shape_is_named():
  theirs, shapes = drawn()
  name = 'final_layer.linear.bias'
  less = {n: x for n, x in theirs.items() if n != name}
  with pytest.raises(ValueError, match=rf'SiT have no {name}$'):
    RULES.from_torch(less, shapes)
  with pytest.raises(ValueError, match='SiT have no final_layer.linear.weight'):
    RULES.from_torch({n: x for n, x in theirs.items() if n != sit.LAST}, shapes)
  table = 'y_embedder.embedding_table.weight'
  fewer = theirs | {table: theirs[table][:-1]}
  with pytest.raises(
    ValueError, match=r'weight of shape \[5, 8\]; .* \[6, 8\]'
  ):
    RULES.from_torch(fewer, shapes)
  more = theirs | {'blocks.0.attn.q_norm.weight': np.ones(4)}
  with pytest.raises(ValueError, match='have blocks.0.attn.q_norm.weight'):
    RULES.from_torch(more, shapes)
  with pytest.raises(ValueError, match='^conv.kernel is no array of a SiT'):
    sit.make_rules({'conv.kernel': (2, 2)})


@pytest.mark.parametrize('variance', [True, False])
@pytest.mark.parametrize('axes', [0, 1, 3])
def test_another_number_of_axes_is_another_shape(variance, axes):
  """Of any array, also of that from which `variance` is known."""
  theirs, shapes = drawn(variance=variance)
  for name in theirs:
    bad = np.resize(theirs[name], (4,) * axes)
    if axes == theirs[name].ndim:
      continue
    with pytest.raises(ValueError, match=rf'SiT have {name} of shape \['):
      RULES.from_torch(theirs | {name: bad}, shapes)


def test_trained_outputs_for_a_variance_are_those_of_dit():
  theirs, shapes = drawn(variance=True)
  theirs[sit.LAST] = np.ones_like(theirs[sit.LAST])
  with pytest.raises(ValueError, match='has weights for a variance, as those'):
    RULES.from_torch(theirs, shapes)


def test_sit_has_no_file_of_flax():
  with pytest.raises(
    ValueError, match="network.time must be 'mean_flow' for a"
  ):
    sit.to_flax(drawn()[0])
