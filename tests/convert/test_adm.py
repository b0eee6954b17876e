"""ADM weights under PyTorch's names."""

import functools

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert import CONVERTERS, adm
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.adm import ADM
from flowdistill.networks.options import NetworkOptions
from flowdistill.training.named_arrays import by_name

WEIGHTS = CONVERTERS['adm']
SIDE = 8
SMALL = {'nf': 4, 'res_blocks': 1, 'ch_mult': (1, 2), 'attention': (4,)}
BRANCHES = {
  'default': {},
  'no_label': {'classes': 0, 'attention': ()},
  'levels': {'ch_mult': (2, 1, 2), 'res_blocks': 2, 'attention': (8, 4)},
}
BRANCH = pytest.mark.parametrize('branch', BRANCHES)


def built(branch, **more):
  """(graph, params) without arrays."""
  options = {'classes': 5, 'head_channels': 4, **SMALL, **BRANCHES[branch]}
  spec = DataSpec.labelled((SIDE, SIDE, 3), options.pop('classes'))
  build = functools.partial(ADM, spec, **options, **more)
  return nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))


def drawn(branch):
  """Their arrays, as random numbers by their names, and our shapes."""
  rng = np.random.default_rng(0)
  shapes = shapes_of(branch)

  def array(shape):  # the first axis is what comes out
    scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.5
    return (scale * rng.normal(size=shape)).astype(np.float32)

  rules = adm.make_rules(shapes, SIDE)
  empty = {r.theirs: r.write(np.empty(shapes[r.ours])).shape for r in rules}
  return {name: array(shape) for name, shape in empty.items()}, shapes


@functools.cache
def shapes_of(branch, **more):
  _, params = built(branch, **more)
  return {path: x.shape for path, x in by_name(params).items()}


@BRANCH
def test_every_parameter_has_one_rule_but_those_that_are_ours_alone(branch):
  plain = set(shapes_of(branch))
  scalars = NetworkOptions(scalars=('guidance',))
  rules = adm.make_rules(shapes_of(branch, options=scalars), SIDE)
  ours = [rule.ours for rule in rules]
  assert len(set(ours)) == len(ours)
  assert set(ours) == {path for path in plain if 'of_s' not in path}
  assert len({rule.theirs for rule in rules}) == len(rules)


@BRANCH
def test_there_and_back_to_the_byte(branch):
  theirs, shapes = drawn(branch)
  ours = WEIGHTS.from_torch(theirs, shapes)
  assert {path: x.shape for path, x in ours.items()}.items() <= shapes.items()
  for prefix in ('', 'module.'):
    back = WEIGHTS.to_torch(ours, SIDE, prefix)
    filters = [n for n in back if n.endswith('.resample_filter')]
    names = [n for n in back if n not in filters]
    assert [n.removeprefix(prefix) for n in names] == list(theirs)
    for name, array in theirs.items():
      assert back[prefix + name].tobytes() == array.tobytes(), name
    changes = sum(
      n.endswith(('up.conv0.bias', 'down.conv0.bias')) for n in back
    )
    assert len(filters) == 2 * changes > 0
    for before in ('', 'model.'):
      renamed = {before + name: array for name, array in back.items()}
      again = WEIGHTS.from_torch(renamed, shapes)
      for path, array in ours.items():
        assert again[path].tobytes() == array.tobytes()


def test_names_are_those_of_the_original_in_its_order():
  def block(name, *parts):
    return [f'{name}.{p}.{leaf}' for p in parts for leaf in ('weight', 'bias')]

  plain = ('norm0', 'conv0', 'affine', 'norm1', 'conv1')
  heads = ('norm2', 'qkv', 'proj')
  assert list(drawn('default')[0]) == [
    *('map_layer0.weight', 'map_layer0.bias'),
    *('map_layer1.weight', 'map_layer1.bias', 'map_label.weight'),
    *('enc.8x8_conv.weight', 'enc.8x8_conv.bias'),
    *block('enc.8x8_block0', *plain),
    *block('enc.4x4_down', *plain),
    *block('enc.4x4_block0', *plain, 'skip', *heads),
    *block('dec.4x4_in0', *plain, *heads),
    *block('dec.4x4_in1', *plain),
    *block('dec.4x4_block0', *plain, 'skip', *heads),
    *block('dec.4x4_block1', *plain, 'skip', *heads),
    *block('dec.8x8_up', *plain),
    *block('dec.8x8_block0', *plain, 'skip'),
    *block('dec.8x8_block1', *plain, 'skip'),
    *('out_norm.weight', 'out_norm.bias', 'out_conv.weight', 'out_conv.bias'),
  ]


def test_layouts():
  theirs, shapes = drawn('default')
  ours = WEIGHTS.from_torch(theirs, shapes)
  label = theirs['map_label.weight']
  np.testing.assert_array_equal(ours['label.kernel'], label.T)
  conv = theirs['enc.8x8_conv.weight']
  assert ours['first.kernel'][0, 1, 2, 3] == conv[3, 2, 0, 1]  # out, in, h, w
  qkv = theirs['dec.4x4_in0.qkv.weight']
  assert qkv.shape == (24, 8, 1, 1)
  assert ours['middle.0.attention.qkv.kernel'][3, 2] == qkv[2, 3, 0, 0]
  np.testing.assert_array_equal(
    ours['last.layers.2.bias'], -theirs['out_conv.bias']
  )


def test_only_the_last_convolution_turns_the_sign():
  rules = adm.make_rules(shapes_of('default'), SIDE)
  turned = [rule.ours for rule in rules if rule.negative]
  assert turned == ['last.layers.2.kernel', 'last.layers.2.bias']


@BRANCH
def test_ema_weights_are_a_list_in_the_order_of_the_parameters(branch):
  theirs, shapes = drawn(branch)
  shadow = [2 * array for array in theirs.values()]
  checkpoint = {f'model.{n}': array for n, array in theirs.items()} | {
    f'ema.shadow_params.{i}': array for i, array in enumerate(shadow)
  }
  found = WEIGHTS.ema_from_torch(checkpoint, shapes)
  for path, array in WEIGHTS.from_torch(theirs, shapes).items():
    np.testing.assert_array_equal(found[path], 2 * array)
  for a, b in zip(WEIGHTS.ema_to_torch(found, SIDE), shadow, strict=True):
    assert a.tobytes() == b.tobytes()
  del checkpoint['ema.shadow_params.3']
  with pytest.raises(ValueError, match=rf'{len(shadow) - 1} arrays in ema'):
    WEIGHTS.ema_from_torch(checkpoint, shapes)


def test_what_is_read_of_a_checkpoint():
  names = [
    *('step', 'model.enc.4x4_down.skip.resample_filter', 'ema.decay'),
    *('model.enc.8x8_conv.weight', 'ema.shadow_params.0'),
  ]
  assert WEIGHTS.wanted(names, ema=False) == names[3:4]
  assert WEIGHTS.wanted(names, ema=True) == names[3:]


def test_what_is_missing_or_too_much_is_named():
  theirs, shapes = drawn('default')
  name = 'enc.4x4_block0.skip.bias'
  less = {n: x for n, x in theirs.items() if n != name}
  with pytest.raises(ValueError, match=rf'ADM have no {name}$'):
    WEIGHTS.from_torch(less, shapes)
  with pytest.raises(ValueError, match=r'have enc\.9x9_down\.weight, and th'):
    WEIGHTS.from_torch(theirs | {'enc.9x9_down.weight': 0}, shapes)
  with pytest.raises(ValueError, match=r'have map_augment\.weight, and the n'):
    WEIGHTS.from_torch(theirs | {'map_augment.weight': 0}, shapes)
  with pytest.raises(ValueError, match=rf'{name} appears twice'):
    WEIGHTS.from_torch(theirs | {f'module.{name}': theirs[name]}, shapes)
  wrong = theirs | {name: np.ones(5)}
  with pytest.raises(ValueError, match=rf'{name} of shape \[5\];.* be \[8\]$'):
    WEIGHTS.from_torch(wrong, shapes)
  with pytest.raises(ValueError, match='ADM have no enc.<side>x<side>_conv.w'):
    WEIGHTS.from_torch({'map_layer0.bias': np.ones(16)}, shapes)


@pytest.mark.parametrize(
  'layer', ['blocks.3', 'down.0', 'down.0.steps.0.attention.q']
)
def test_a_path_of_another_network_is_named(layer):
  with pytest.raises(ValueError, match=f'^{layer} is no layer of an ADM'):
    adm.make_rules({f'{layer}.kernel': (2, 2)}, SIDE)
