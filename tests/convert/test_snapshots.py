"""Snapshots of whole modules: their arrays are read, and no code is run."""

import os
import pickle
import sys

import numpy as np
import pytest
from convert.snapshots_by_hand import (
  LOADS,
  module,
  persistent,
  snapshot,
  stand_ins,
  state,
  storage,
  tensor,
)
from convert.test_pickles import Named, everything, save
from convert.test_pickles import tensor as saved_tensor

from flowdistill.convert import opcodes, snapshots
from flowdistill.convert.arrays import read_chosen
from flowdistill.convert.modules import Made

RNG = np.random.default_rng(0)
ARRAYS = {
  'unet.out_gain': np.float16(0.5).reshape(()),
  'unet.emb_fourier.freqs': RNG.normal(size=4).astype(np.float16),
  'unet.enc.8x8_conv.weight': RNG.normal(size=(2, 3, 3, 3)).astype(np.float32),
  'unet.dec.8x8_in0.attn_qkv.weight': np.ones((6, 2, 1, 1), np.float16),
}


@pytest.fixture(autouse=True)
def names(monkeypatch):
  stand_ins(monkeypatch)


def write(path, data):
  path.write_bytes(data)
  return path


@pytest.mark.parametrize('protocol', [3, 4, 5])
def test_arrays_have_the_names_of_a_state_dict(tmp_path, protocol):
  path = write(tmp_path / 'x.pkl', snapshot(ARRAYS, protocol=protocol))
  found = everything(path)
  assert list(found) == [f'ema.{name}' for name in ARRAYS]
  for name, array in ARRAYS.items():
    same = found[f'ema.{name}']
    assert (same.dtype, same.shape) == (array.dtype, array.shape)
    assert same.tobytes() == array.tobytes()


def test_it_says_how_its_modules_were_made(tmp_path):
  data = snapshot(
    ARRAYS, channel_mult=[1, 2], dropout=0.1, use_fp16=True, lost={1: 2}
  )
  said = {}
  read_chosen(write(tmp_path / 'x.pkl', data), lambda names: [], said.update)
  given = {'channel_mult': [1, 2], 'dropout': 0.1, 'use_fp16': True}
  assert said['ema'] == Made('Precond', given)
  assert said['loss_fn'] == Made('EDM2Loss', {})
  alone = pickle.dumps(persistent('Precond', {'_init_kwargs': None}))
  with pytest.raises(ValueError, match='it has no tensors'):
    everything(write(tmp_path / 'x.pkl', alone))


def test_a_module_alone_and_one_that_is_there_twice(tmp_path):
  one = module(ARRAYS, kind='Net', depth=2)
  said = {}
  path = write(tmp_path / 'x.pkl', pickle.dumps(one))
  found = read_chosen(path, lambda names: names, said.update)
  assert list(found) == list(ARRAYS)
  assert said == {'': Made('Net', {'depth': 2})}
  path = write(tmp_path / 'x.pkl', pickle.dumps({'net': one, 'ema': one}))
  twice = everything(path)
  assert len(twice) == 2 * len(ARRAYS)
  for name, array in ARRAYS.items():
    for key in ('net', 'ema'):
      assert twice[f'{key}.{name}'].tobytes() == array.tobytes()


@pytest.mark.parametrize('where', ['more', 'inside', 'option'])
def test_code_is_named_and_not_run(tmp_path, where):
  harm = tmp_path / 'harm'
  call = Named(os.system, f'touch {harm}')
  if where == 'inside':
    data = pickle.dumps({'ema': persistent('Net', state({'w': call}, {}, {}))})
  else:
    data = snapshot(ARRAYS, **{where: call})
  with pytest.raises(
    ValueError, match=r'names (posix|nt)\.system, which may b'
  ):
    everything(write(tmp_path / 'x.pkl', data))
  assert not harm.exists()


def test_modules_of_other_classes_are_named(tmp_path, monkeypatch):
  linear = type('Linear', (), {'__module__': 'torch.nn.modules.linear'})
  monkeypatch.setitem(sys.modules, 'torch.nn.modules.linear', linear)
  linear.Linear = linear
  path = write(tmp_path / 'x.pkl', snapshot(ARRAYS, more=linear()))
  with pytest.raises(ValueError, match=r'it names torch\.nn\.modules\.linear'):
    everything(path)


NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (lambda: storage(NUMBERS, count=7), 'a storage of 6 numbers in .* bytes'),
    (lambda: storage(NUMBERS, more=b'x'), 'a storage of 6 numbers in .* bytes'),
    (lambda: storage(NUMBERS)[:-1], 'a storage of 6 numbers in .* bytes'),
    (lambda: storage(NUMBERS)[:40], 'cannot be read as a bare pickle'),
    (lambda: b'', 'cannot be read as a bare pickle'),
    (lambda: pickle.dumps(3), 'its version of the format is not 1001'),
    (lambda: 'text', 'it has a storage that is not bytes; save it by protocol'),
    (lambda: storage(NUMBERS[0]), 'exceeds the 3 numbers of its storage'),
  ],
)
def test_a_storage_that_is_damaged(tmp_path, data, message):
  path = write(tmp_path / 'x.pkl', pickle.dumps({'w': tensor(NUMBERS, data())}))
  with pytest.raises(ValueError, match=f'x.pkl.* {message}'):
    everything(path)


def test_a_snapshot_of_an_old_protocol_or_cut_short(tmp_path):
  path = write(tmp_path / 'x.pkl', snapshot(ARRAYS, protocol=2))
  with pytest.raises(ValueError, match='save it by protocol 3 of pickle'):
    everything(path)
  whole = snapshot(ARRAYS)
  for size in (2, 99, len(whole) // 2, len(whole) - 1):
    write(path, whole[:size])
    with pytest.raises(ValueError, match=r'x\.pkl cannot be read as a bare'):
      everything(path)


def test_its_storages_are_counted(tmp_path, monkeypatch):
  monkeypatch.setattr(snapshots, 'MOST', 3)
  path = write(tmp_path / 'x.pkl', snapshot(ARRAYS))
  with pytest.raises(ValueError, match='it has more than 3 storages'):
    everything(path)


def test_its_text_is_limited_and_its_storages_are_not(tmp_path, monkeypatch):
  monkeypatch.setattr(opcodes, 'LONGEST', 20_000)
  large = {**ARRAYS, 'unet.large': np.zeros(30_000, np.float32)}
  path = write(tmp_path / 'x.pkl', snapshot(large))
  assert len(everything(path)) == len(large)
  for texts in (['x' * 20_001], [f'{i:05d}' for i in range(4000)]):
    path = write(tmp_path / 'x.pkl', snapshot(ARRAYS, notes=texts))
    with pytest.raises(ValueError, match='has more than 20000 letters'):
      everything(path)


def test_what_a_module_contains_is_counted(tmp_path):
  """One that contains itself, and one of which many dicts are made."""
  loop = []
  its = state({'w': tensor(NUMBERS)}, {}, {'loop': loop})
  loop.append(its)
  path = write(tmp_path / 'x.pkl', pickle.dumps(persistent('Net', its)))
  with pytest.raises(ValueError, match='it has more than 8 levels or'):
    everything(path)
  wide = persistent('Net', {'_buffers': {str(i): i for i in range(3000)}})
  path = write(tmp_path / 'x.pkl', pickle.dumps([wide] * 3000))
  with pytest.raises(ValueError, match='it has more than 8 levels or'):
    everything(path)


def test_a_storage_alone_is_no_tensor(tmp_path):
  call = Named(LOADS, storage(NUMBERS))
  path = write(tmp_path / 'x.pkl', pickle.dumps([call, tensor(NUMBERS)]))
  assert list(everything(path)) == ['1']


def test_modules_in_files_of_torch_save_say_it_too(tmp_path):
  """As in training states of EDM, whose arrays have the names of ADM."""
  names = sys.modules['torch'], sys.modules['torch._utils']
  inside = state({'w': saved_tensor(names, (3, 4), (4, 1))}, {}, {})
  net = persistent('EDMPrecond', {**inside, '_init_kwargs': {}})
  path, said = save(tmp_path / 'x.pt', {'net': net}), {}
  assert list(read_chosen(path, lambda names: names, said.update)) == ['net.w']
  assert said == {'net': Made('EDMPrecond', {})}
