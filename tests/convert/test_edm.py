"""EDM's weights under PyTorch's names."""

import functools

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert import CONVERTERS, edm
from flowdistill.flow.spec import DataSpec
from flowdistill.networks import NETWORKS
from flowdistill.networks.options import NetworkOptions
from flowdistill.training.named_arrays import by_name

SIDE = 4
SMALL = {'nf': 4, 'res_blocks': 1, 'ch_mult': (1, 2), 'attention': (2,)}
NCSNPP = {
  'embedding_type': 'fourier',
  'noise_mult': 2,
  'fir': True,
  'progressive_input': 'residual',
}
SKIPS = {'progressive': 'output_skip', 'progressive_input': 'input_skip'}
BRANCHES = {
  'ddpmpp': ('edm_ncsnpp', SMALL | {'ch_mult': (2, 1)}, 5),
  'ncsnpp': ('edm_ncsnpp', SMALL | NCSNPP, 5),
  'skips': (
    'edm_ncsnpp',
    SMALL | SKIPS | {'fir': True, 'attention': (), 'sigma_data': 0.8},
    0,
  ),
  'averages': (
    'edm_ncsnpp',
    SMALL
    | {'progressive_input': 'residual', 'attention': (4,), 'embedding_mult': 2},
    5,
  ),
  'adm': ('edm_adm', SMALL | {'head_channels': 4}, 5),
  'adm_no_label': ('edm_adm', SMALL | {'head_channels': 4, 'res_blocks': 2}, 0),
}
"""Network, its options, and classes."""
BRANCH = pytest.mark.parametrize('branch', BRANCHES)


def built(branch, **more):
  """(graph, params) without arrays."""
  name, options, classes = BRANCHES[branch]
  spec = DataSpec.labelled((SIDE, SIDE, 3), classes)
  build = functools.partial(NETWORKS[name], spec, **options | more)
  return nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))


@functools.cache
def shapes_of(branch, **more):
  params = built(branch, **more)[1]
  return {path: x.shape for path, x in by_name(params).items()}


def rules_of(branch, **more):
  rules = CONVERTERS[BRANCHES[branch][0]]
  return rules.make_rules(shapes_of(branch, **more), SIDE)


def drawn(branch, **more):
  """Their arrays, as random numbers by their names, and our shapes."""
  rng, shapes = np.random.default_rng(0), shapes_of(branch, **more)

  def array(shape):  # the first axis is what comes out
    scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.5
    return (scale * rng.normal(size=shape)).astype(np.float32)

  rules = rules_of(branch, **more)
  empty = {r.theirs: r.write(np.empty(shapes[r.ours])).shape for r in rules}
  return {name: array(shape) for name, shape in empty.items()}, shapes


@BRANCH
def test_every_parameter_has_one_rule_but_those_that_are_ours_alone(branch):
  scalars = NetworkOptions(scalars=('guidance',))
  rules = rules_of(branch, options=scalars, augment_dim=9)
  plain = shapes_of(branch, augment_dim=9)
  assert {r.ours for r in rules} == {p for p in plain if 'of_s' not in p}
  assert len({r.theirs for r in rules}) == len(rules)
  assert not [rule for rule in rules if rule.negative]
  fixed = [rule.theirs for rule in rules if not rule.learnt]
  assert fixed == (['map_noise.freqs'] if branch == 'ncsnpp' else [])


@BRANCH
def test_there_and_back_to_the_byte(branch):
  name, options, _ = BRANCHES[branch]
  (theirs, shapes), weights = drawn(branch, augment_dim=9), CONVERTERS[name]
  ours = weights.from_torch(theirs, shapes)
  back = weights.to_torch(ours, SIDE, network=options)
  assert [n for n in back if 'resample' not in n] == list(theirs)
  for array_name, array in theirs.items():
    assert back[array_name].tobytes() == array.tobytes(), array_name
  below = {f'ema.model.{n}': array for n, array in back.items()}
  again = weights.from_torch(below | {'ema.u': np.ones(1001)}, shapes)
  assert all(again[path].tobytes() == ours[path].tobytes() for path in ours)


def block(name, *parts):
  return [f'{name}.{p}.{leaf}' for p in parts for leaf in ('weight', 'bias')]


PLAIN = ('norm0', 'conv0', 'affine', 'norm1', 'conv1')
HEADS = ('norm2', 'qkv', 'proj')


def test_names_are_those_of_the_original_in_its_order():
  assert list(drawn('ncsnpp', augment_dim=9)[0]) == [
    *('map_label.weight', 'map_label.bias', 'map_augment.weight'),
    *('map_noise.freqs', 'map_layer0.weight', 'map_layer0.bias'),
    *('map_layer1.weight', 'map_layer1.bias'),
    *('enc.4x4_conv.weight', 'enc.4x4_conv.bias'),
    *block('enc.4x4_block0', *PLAIN),
    *block('enc.2x2_down', *PLAIN, 'skip'),
    *('enc.2x2_aux_residual.weight', 'enc.2x2_aux_residual.bias'),
    *block('enc.2x2_block0', *PLAIN, 'skip', *HEADS),
    *block('dec.2x2_in0', *PLAIN, *HEADS),
    *block('dec.2x2_in1', *PLAIN),
    *block('dec.2x2_block0', *PLAIN, 'skip'),
    *block('dec.2x2_block1', *PLAIN, 'skip', *HEADS),
    *block('dec.4x4_up', *PLAIN, 'skip'),
    *block('dec.4x4_block0', *PLAIN, 'skip'),
    *block('dec.4x4_block1', *PLAIN, 'skip'),
    *('dec.4x4_aux_norm.weight', 'dec.4x4_aux_norm.bias'),
    *('dec.4x4_aux_conv.weight', 'dec.4x4_aux_conv.bias'),
  ]


def test_those_of_adm_too():
  names = list(drawn('adm', augment_dim=9)[0])
  assert names[:6] == [
    *('map_augment.weight', 'map_layer0.weight', 'map_layer0.bias'),
    *('map_layer1.weight', 'map_layer1.bias', 'map_label.weight'),
  ]
  assert names[-4:] == [
    *('out_norm.weight', 'out_norm.bias', 'out_conv.weight', 'out_conv.bias'),
  ]


@pytest.mark.parametrize(
  ('branch', 'beside'),
  [
    ('ddpmpp', []),
    ('ncsnpp', ['enc.2x2_aux_residual']),
    ('averages', ['enc.2x2_aux_residual']),
    ('skips', ['dec.4x4_aux_up', 'enc.2x2_aux_down']),
    ('adm', []),
  ],
)
def test_the_filters_that_only_theirs_has(branch, beside):
  _, options, _ = BRANCHES[branch]
  found = edm.filters(drawn(branch)[0], options)
  blocks = ('dec.4x4_up', 'enc.2x2_down')
  layers = [f'{b}.{part}' for b in blocks for part in ('conv0', 'skip')]
  wanted = sorted(f'{n}.resample_filter' for n in [*layers, *beside])
  assert sorted(found) == wanted
  taps = [1, 3, 3, 1] if options.get('fir') else [1, 1]
  exact = np.outer(taps, taps) / sum(taps) ** 2
  for array in found.values():
    np.testing.assert_array_equal(array, exact[None, None].astype(np.float32))


def test_layouts():
  theirs, shapes = drawn('ncsnpp')
  ours = CONVERTERS['edm_ncsnpp'].from_torch(theirs, shapes)
  label = theirs['map_label.weight']
  np.testing.assert_array_equal(ours['label.linear.kernel'], label.T)
  np.testing.assert_array_equal(
    ours['times.frequencies'], theirs['map_noise.freqs']
  )
  conv = theirs['enc.2x2_aux_residual.weight']  # out, in, h, w
  kernel = ours['down.0.pyramid.resample.fir_conv.kernel']
  assert kernel[0, 1, 2, 3] == conv[3, 2, 0, 1]
  qkv = theirs['dec.2x2_in0.qkv.weight']
  assert qkv.shape == (24, 8, 1, 1)
  assert ours['middle.0.attention.qkv.kernel'][3, 2] == qkv[2, 3, 0, 0]


def test_what_is_missing_or_too_much_is_named():
  weights = CONVERTERS['edm_ncsnpp']
  theirs, shapes = drawn('ncsnpp')
  name = 'enc.2x2_aux_residual.bias'
  less = {n: x for n, x in theirs.items() if n != name}
  with pytest.raises(ValueError, match=rf'EDM have no {name}$'):
    weights.from_torch(less, shapes)
  with pytest.raises(ValueError, match=r'have map_augment\.weight, and the n'):
    weights.from_torch(theirs | {'map_augment.weight': np.ones(1)}, shapes)
  with pytest.raises(ValueError, match='EDM have no enc.<side>x<side>_conv.w'):
    weights.from_torch({'map_layer0.bias': np.ones(16)}, shapes)


@pytest.mark.parametrize('make_rules', [edm.adm_rules, edm.ncsnpp_rules])
@pytest.mark.parametrize('layer', ['blocks.3', 'down.0', 'down.0.pyramid.head'])
def test_a_path_of_another_network_is_named(make_rules, layer):
  with pytest.raises(ValueError, match=f'^{layer} is no layer of an EDM'):
    make_rules({f'{layer}.kernel': (2, 2)}, SIDE)
