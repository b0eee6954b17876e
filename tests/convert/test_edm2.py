"""EDM2 weights under PyTorch's names."""

import functools

import numpy as np
import pytest
from flax import nnx

from flowdistill.convert import CONVERTERS, edm2
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2 import EDM2
from flowdistill.training.named_arrays import by_name

WEIGHTS = CONVERTERS['edm2']
SIDE = 8
SMALL = {'width': 8, 'res_blocks': 2, 'ch_mult': (1, 2), 'attention': (4,)}


def built(classes=5):
  spec = DataSpec.labelled((SIDE, SIDE, 3), classes)
  build = functools.partial(EDM2, spec, **SMALL, head_channels=4)
  return nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))


def drawn(classes=5):
  """Their arrays, as random numbers by their names, and our shapes."""
  rng = np.random.default_rng(0)
  shapes = {path: x.shape for path, x in by_name(built(classes)[1]).items()}
  rules = edm2.make_rules(shapes, SIDE)
  empty = {r.theirs: r.write(np.empty(shapes[r.ours])).shape for r in rules}
  arrays = {
    name: np.asarray(rng.normal(size=shape), np.float32)
    for name, shape in empty.items()
  }
  return arrays, shapes


@pytest.mark.parametrize('classes', [0, 5])
def test_there_and_back_to_the_byte(classes):
  theirs, shapes = drawn(classes)
  ours = WEIGHTS.from_torch(theirs, shapes)
  assert set(ours) == {path for path in shapes if 'of_s' not in path}
  back = WEIGHTS.to_torch(ours, SIDE)
  assert set(back) == set(theirs)
  for name, array in theirs.items():
    assert back[name].shape == array.shape
    assert back[name].tobytes() == array.tobytes(), name
  below = {f'ema.{name}': array for name, array in theirs.items()}
  again = WEIGHTS.from_torch(below, shapes)
  assert all(again[path].tobytes() == ours[path].tobytes() for path in ours)


def test_half_precision_comes_back_exactly():
  theirs, shapes = drawn()
  halves = {name: array.astype(np.float16) for name, array in theirs.items()}
  back = WEIGHTS.to_torch(WEIGHTS.from_torch(halves, shapes), SIDE)
  for name, array in halves.items():
    assert back[name].astype(np.float16).tobytes() == array.tobytes()


def test_gains_of_one_number_are_scalars():
  theirs, shapes = drawn()
  vectors = {n: a.reshape(1) if a.ndim == 0 else a for n, a in theirs.items()}
  assert vectors['unet.out_gain'].shape == (1,)
  ours = WEIGHTS.from_torch(vectors, shapes)
  assert ours['gain'] == theirs['unet.out_gain']


def test_layouts_and_names():
  theirs, shapes = drawn()
  ours = WEIGHTS.from_torch(theirs, shapes)
  conv = theirs['unet.enc.8x8_conv.weight']
  assert ours['first.kernel'][0, 1, 2, 3] == conv[3, 2, 0, 1]  # out, in, h, w
  qkv = theirs['unet.dec.4x4_in0.attn_qkv.weight']
  assert qkv.shape == (48, 16, 1, 1)
  inside = ours['dec.level1_in0.attention.qkv.kernel']
  assert inside[3, 2] == qkv[2, 3, 0, 0]
  assert 'unet.enc.4x4_down.conv_res0.weight' in theirs
  assert 'unet.dec.8x8_up.emb_gain' in theirs


def test_what_is_missing_or_too_much_is_named():
  theirs, shapes = drawn()
  name = 'unet.enc.4x4_block0.conv_skip.weight'
  less = {n: x for n, x in theirs.items() if n != name}
  with pytest.raises(ValueError, match=rf'EDM2 have no {name}$'):
    WEIGHTS.from_torch(less, shapes)
  more = theirs | {'unet.enc.2x2_down.emb_gain': np.zeros(())}
  with pytest.raises(ValueError, match=r'have unet\.enc\.2x2_down\.emb_gain'):
    WEIGHTS.from_torch(more, shapes)
  with pytest.raises(ValueError, match='have no unet.enc.<side>x<side>_conv'):
    WEIGHTS.from_torch({'logvar_linear.weight': np.ones((1, 128))}, shapes)
  with pytest.raises(ValueError, match='^blocks.3.kernel is no array of an ED'):
    edm2.make_rules({'blocks.3.kernel': (2, 2)}, SIDE)
