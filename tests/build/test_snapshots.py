"""Copies of snapshots with other weights, and the networks that do not fit."""

import numpy as np
import pytest
from convert.snapshots_by_hand import snapshot, stand_ins

from flowdistill.build.snapshots import check_made, write_snapshot
from flowdistill.convert import CONVERTERS
from flowdistill.convert.arrays import read_chosen
from flowdistill.convert.modules import Made

RULES, NETWORK = CONVERTERS['edm2'], {'name': 'edm2', 'width': 192}
ARRAYS = {
  'unet.out_gain': np.float16(0.5).reshape(()),
  'unet.enc.8x8_conv.weight': np.ones((2, 3, 3, 3), np.float32),
  'unet.dec.8x8_in0.attn_qkv.weight': np.ones((2, 6, 1, 1), np.float16),
}


@pytest.fixture
def like(tmp_path, monkeypatch):
  stand_ins(monkeypatch)
  turned = {n: x.T if '_qkv' in n else x for n, x in ARRAYS.items()}
  path = tmp_path / 'like.pkl'
  path.write_bytes(snapshot(turned | {'unknown': np.ones(2, np.float32)}))
  return path


def new():
  """Other numbers for each array, in float32 as our own are."""
  rng = np.random.default_rng(0)
  shapes = {n: x.T.shape if '_qkv' in n else x.shape for n, x in ARRAYS.items()}
  return {
    name: np.asarray(rng.normal(size=shape), np.float32)
    for name, shape in shapes.items()
  }


def test_numbers_alone_are_others_in_their_own_types(like, tmp_path):
  theirs, to = new(), tmp_path / 'to.pkl'
  theirs['unet.out_gain'] = theirs['unet.out_gain'].reshape(1)
  write_snapshot(like, to, RULES, NETWORK, theirs)
  found = read_chosen(to, lambda names: names)
  for name, array in ARRAYS.items():
    written = found[f'ema.{name}']
    assert written.dtype == array.dtype
    expected = theirs[name].astype(array.dtype).reshape(written.shape)
    np.testing.assert_array_equal(written, expected)
  np.testing.assert_array_equal(found['ema.unknown'], 1)
  before, after = like.read_bytes(), to.read_bytes()
  assert len(before) == len(after)
  assert before != after
  # What was before, to the byte.
  old = {n: x.T if '_qkv' in n else x for n, x in ARRAYS.items()}
  write_snapshot(to, to.with_suffix('.back'), RULES, NETWORK, old)
  assert to.with_suffix('.back').read_bytes() == before


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda a: a.pop('unet.out_gain'), 'unet.out_gain is not an array of both'),
    (lambda a: a.update(logvar_x=np.ones(1)), 'logvar_x is not an array of bo'),
    (
      lambda a: a.update({'unet.out_gain': np.full((), 7e4, np.float32)}),
      'ema.unet.out_gain has numbers that are too large for its type',
    ),
    (
      lambda a: a.update({'unet.enc.8x8_conv.weight': np.ones((2, 4, 3, 3))}),
      r'_conv.weight has the shape \[2, 3, 3, 3\], and must have \[2, 4, 3, 3',
    ),
  ],
)
def test_weights_that_do_not_fit_are_refused(like, tmp_path, change, message):
  theirs, to = new(), tmp_path / 'to.pkl'
  change(theirs)
  with pytest.raises(ValueError, match=rf'like\.pkl: .*{message}'):
    write_snapshot(like, to, RULES, NETWORK, theirs)
  assert not to.exists()


def test_what_is_no_snapshot_or_of_another_network_is_refused(like, tmp_path):
  to, npz = tmp_path / 'to.pkl', tmp_path / 'x.npz'
  np.savez(npz, **ARRAYS)
  with pytest.raises(ValueError, match=r'x\.npz must be a snapshot, which is'):
    write_snapshot(npz, to, RULES, NETWORK, new())
  wrong = NETWORK | {'width': 64}
  message = r'like\.pkl: network\.width = 64 must be 192, as in the snapshot'
  with pytest.raises(ValueError, match=message):
    write_snapshot(like, to, RULES, wrong, new())
  assert not to.exists()


def test_a_network_without_snapshots_takes_none():
  made, adm = {'ema': Made('EDMPrecond', {})}, {'name': 'adm'}
  with pytest.raises(
    ValueError, match="of EDMPrecond; of .* 'adm' no snapshots"
  ):
    check_made(CONVERTERS['adm'], made, ['ema.model.'], adm)
  check_made(CONVERTERS['adm'], made, ['net.'], adm)  # another module's arrays
  check_made(CONVERTERS['adm'], {}, ['ema.'], adm)  # a state dict
