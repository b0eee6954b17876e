"""NCSN++ weights under PyTorch's names."""

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert import CONVERTERS, ncsnpp
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.ncsnpp import NCSNpp
from flowdistill.networks.options import NetworkOptions
from flowdistill.training.named_arrays import by_name

WEIGHTS = CONVERTERS['ncsnpp']
SHAPE, SMALL = (4, 4, 3), {'nf': 4, 'res_blocks': 1, 'ch_mult': (1, 2)}
ALONE = {'options': NetworkOptions(scalars=('guidance',))}
BRANCHES = {
  'default': {},
  'ddpm': {'resblock_type': 'ddpm'},
  'ddpm_fir': {'resblock_type': 'ddpm', 'fir': True},
  'fourier': {'embedding_type': 'fourier'},
  'skips': {'progressive': 'output_skip', 'progressive_input': 'input_skip'},
  'residual': {'progressive': 'residual', 'progressive_input': 'residual'},
}
BRANCH = pytest.mark.parametrize('branch', BRANCHES)


def shapes_of(branch, num_classes=5, attention=(2,), **more):
  options = SMALL | BRANCHES[branch] | more
  net = nnx.eval_shape(
    lambda: NCSNpp(
      DataSpec.labelled(SHAPE, num_classes),
      attention=attention,
      **options,
      rngs=nnx.Rngs(0),
    )
  )
  return {path: x.shape for path, x in by_name(nnx.state(net)).items()}


def drawn(branch):
  """Their arrays, as random numbers by their names, and our shapes."""
  shapes, rng = shapes_of(branch), np.random.default_rng(0)
  rules = ncsnpp.make_rules(shapes)
  empty = {r.theirs: r.write(np.empty(shapes[r.ours])).shape for r in rules}
  arrays = {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in empty.items()
  }
  return arrays, shapes


@BRANCH
def test_every_parameter_has_one_rule_but_those_that_are_ours_alone(branch):
  plain = set(shapes_of(branch, num_classes=0))
  shapes = shapes_of(branch, **ALONE)
  rules = ncsnpp.make_rules(shapes)
  ours = [rule.ours for rule in rules]
  assert len(set(ours)) == len(ours)
  assert set(ours) == {path for path in plain if 'of_s' not in path}
  assert len({rule.theirs for rule in rules}) == len(rules)


@BRANCH
def test_there_and_back_to_the_byte(branch):
  theirs, shapes = drawn(branch)
  ours = WEIGHTS.from_torch(theirs, shapes)
  assert {path: x.shape for path, x in ours.items()}.items() <= shapes.items()
  back = WEIGHTS.to_torch(ours, 4, 'module.')
  assert [n.removeprefix('module.') for n in back] == list(theirs)
  for name, array in theirs.items():
    assert back[f'module.{name}'].tobytes() == array.tobytes(), name
  for prefix in ('module.', 'model.', 'model.module.'):
    renamed = {prefix + name: array for name, array in theirs.items()}
    again = WEIGHTS.from_torch(renamed | {f'{prefix}sigmas': 0}, shapes)
    for path, array in ours.items():
      assert again[path].tobytes() == array.tobytes()


def kinds(branch):
  """For each of their layers the first letters of its parts."""
  layers = {}
  for rule in ncsnpp.make_rules(shapes_of(branch)):
    number, part = rule.theirs.split('.')[1:3]
    layers.setdefault(int(number), []).append(part)
  assert list(layers) == list(range(len(layers)))
  return [
    ''.join(dict.fromkeys(p[0] if '_' in p else '.' for p in parts))
    for parts in layers.values()
  ]


@pytest.mark.parametrize(
  ('branch', 'expected'),
  [
    # G C D: a block; G N: attention; a dot: a layer without parts.
    ('default', '. . . GCD GCD GCD GN GCD GN GCD GCD GCD GN GCD GCD GCD . .'),
    (
      'ddpm',
      '. . . GCD C GCDN GN GCDN GN GCDN GCDN GCDN GN C GCDN GCDN . .',
    ),
    (
      'fourier',
      '. . . . GCD GCD GCD GN GCD GN GCD GCD GCD GN GCD GCD GCD . .',
    ),
    (
      'skips',
      '. . . GCD GCD C GCD GN GCD GN GCD GCD GCD GN . . GCD GCD GCD . .',
    ),
    (
      'residual',
      '. . . GCD GCD C GCD GN GCD GN GCD GCD GCD GN . . GCD GCD GCD C . .',
    ),
  ],
)
def test_layers_are_numbered_as_they_run(branch, expected):
  # In 'ddpm' the blocks of the middle keep their channels, and need no NIN.
  found = kinds(branch)
  if branch == 'ddpm':
    expected = expected.replace('GN GCDN GN GCDN GCDN', 'GN GCD GN GCD GCDN')
  assert found == expected.split()


def test_frequencies_come_first():
  rules = {r.theirs: r.ours for r in ncsnpp.make_rules(shapes_of('fourier'))}
  assert rules['all_modules.0.W'] == 'times.frequencies'
  assert rules['all_modules.1.weight'] == 'times.first.kernel'


def test_layouts():
  theirs, shapes = drawn('ddpm')
  ours = WEIGHTS.from_torch(theirs, shapes)
  dense, conv = theirs['all_modules.0.weight'], theirs['all_modules.2.weight']
  assert ours['times.first.kernel'][1, 2] == dense[2, 1]  # out, in
  assert ours['first.kernel'][0, 1, 2, 3] == conv[3, 2, 0, 1]  # out, in, h, w
  skip, q = (theirs[f'all_modules.{n}.NIN_0.W'] for n in (5, 6))  # in, out
  np.testing.assert_array_equal(ours['down.1.steps.0.block.skip.kernel'], skip)
  attention = 'down.1.steps.0.attention'
  np.testing.assert_array_equal(ours[f'{attention}.q.kernel'], q)
  out = theirs['all_modules.6.NIN_3.b']
  np.testing.assert_array_equal(ours[f'{attention}.out.bias'], out)


@BRANCH
def test_only_what_puts_out_the_velocity_turns_its_sign(branch):
  shapes = shapes_of(branch)
  turned = [r.ours for r in ncsnpp.make_rules(shapes) if r.negative]
  layers = {path.rpartition('.')[0] for path in turned}
  assert len(turned) == 2 * len(layers)
  if branch == 'skips':
    assert layers == {f'up.{i}.pyramid.head.layers.2' for i in range(2)}
  else:
    assert layers == {'last.layers.2'}


@BRANCH
def test_ema_weights_are_a_list_in_the_order_of_what_is_learnt(branch):
  theirs, shapes = drawn(branch)
  fixed = [n for n in theirs if branch == 'fourier' and n.endswith('0.W')][:1]
  learnt = [n for n in theirs if n not in fixed]
  shadow = [2 * theirs[n] for n in learnt]
  checkpoint = {f'model.module.{n}': x for n, x in theirs.items()} | {
    f'ema.shadow_params.{i}': x for i, x in enumerate(shadow)
  }
  found = WEIGHTS.ema_from_torch(checkpoint, shapes)
  plain = WEIGHTS.from_torch(theirs, shapes)
  for path, array in plain.items():
    factor = 1 if path == 'times.frequencies' else 2
    np.testing.assert_array_equal(found[path], factor * array)
  for a, b in zip(WEIGHTS.ema_to_torch(found, 4), shadow, strict=True):
    assert a.tobytes() == b.tobytes()
  del checkpoint['ema.shadow_params.3']
  with pytest.raises(ValueError, match=rf'{len(shadow) - 1} arrays in ema'):
    WEIGHTS.ema_from_torch(checkpoint, shapes)


def test_what_is_read_of_a_checkpoint():
  names = [
    *('optimizer.state.0.exp_avg', 'model.module.sigmas', 'step'),
    *('model.module.all_modules.0.weight', 'ema.shadow_params.0'),
  ]
  assert WEIGHTS.wanted(names, ema=False) == names[3:4]
  assert WEIGHTS.wanted(names, ema=True) == names[3:]


def test_what_is_missing_or_too_much_is_named():
  theirs, shapes = drawn('default')
  name = 'all_modules.4.Conv_2.bias'
  less = {n: x for n, x in theirs.items() if n != name}
  with pytest.raises(ValueError, match=rf'have no {name}$'):
    WEIGHTS.from_torch(less, shapes)
  with pytest.raises(ValueError, match=r'have all_modules\.99\.weight, and th'):
    WEIGHTS.from_torch(theirs | {'all_modules.99.weight': 0}, shapes)
  with pytest.raises(ValueError, match=rf'{name} appears twice'):
    WEIGHTS.from_torch(theirs | {f'module.{name}': theirs[name]}, shapes)
  wrong = theirs | {name: np.ones(5)}
  with pytest.raises(ValueError, match=rf'{name} of shape \[5\];.* be \[4\]$'):
    WEIGHTS.from_torch(wrong, shapes)


def test_a_path_of_another_network_is_named():
  with pytest.raises(ValueError, match='blocks.3 is no layer of an NCSN'):
    ncsnpp.make_rules({'blocks.3.kernel': (2, 2)})
