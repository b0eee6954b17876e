"""Trees of arrays in the msgpack of Flax."""

import contextlib
import tracemalloc

import msgpack
import numpy as np
import pytest
from flax import serialization

from flowdistill.convert import kinds
from flowdistill.convert.arrays import read_chosen
from flowdistill.files.flax_tree import read_flax, write_flax

ARRAYS = {
  'net.a.kernel': np.arange(6, dtype=np.float32).reshape(2, 3),
  'net.a.bias': np.ones(2, np.float16),
  'net.gain': np.float32(3).reshape(()),
}


def everything(names):
  return names


def test_there_and_back(tmp_path):
  path = tmp_path / 'x'
  write_flax(path, ARRAYS | {'net.a.kernel': ARRAYS['net.a.kernel'].T})
  back = read_chosen(path, everything)
  assert back.keys() == ARRAYS.keys()
  np.testing.assert_array_equal(back['net.a.kernel'], ARRAYS['net.a.kernel'].T)
  assert back['net.a.bias'].dtype == np.float16
  assert back['net.gain'].shape == ()
  assert set(read_flax(path, lambda names: names[:1])) == {next(iter(back))}
  restored = serialization.msgpack_restore(path.read_bytes())
  np.testing.assert_array_equal(restored['net']['a']['bias'], np.ones(2))


def test_a_training_state_of_flax(tmp_path):
  """Its step, names of lists, and what Orbax has put elsewhere."""
  state = {'step': 7, 'params': {'w': np.ones(3, np.float32)}}
  state['opt_state'] = {'0': {'mu': {'w': np.zeros(3, np.float32)}}, '1': {}}
  state['more'] = 'PLACEHOLDER://more'
  path = tmp_path / 'checkpoint'
  path.write_bytes(serialization.msgpack_serialize(state))
  assert kinds.kind_of(path) == kinds.FLAX
  names = []
  read_chosen(path, lambda present: names.extend(present) or [])
  assert sorted(names) == ['more', 'opt_state.0.mu.w', 'params.w']
  with pytest.raises(ValueError, match='more is in another file of an Orbax'):
    read_chosen(path, everything)


@pytest.mark.parametrize('keys', [1, 15, 16, 70_000])
def test_a_tree_is_known_by_how_it_begins(tmp_path, keys):
  path = tmp_path / 'x'
  path.write_bytes(msgpack.packb({f'k{i}': i for i in range(keys)}))
  assert kinds.kind_of(path) == kinds.FLAX


def test_damaged_files_are_named(tmp_path):
  path = tmp_path / 'x'
  write_flax(path, ARRAYS)
  whole = path.read_bytes()
  for damaged in (whole[:-9], whole[:20], whole + b'more', whole[:9] + b'\xc1'):
    path.write_bytes(damaged)
    with pytest.raises(
      ValueError, match=f'^{path} cannot be read as msgpack of'
    ):
      read_chosen(path, everything)
  deep = {'a': 1}
  for _ in range(40):
    deep = {'a': deep}
  path.write_bytes(msgpack.packb(deep))
  with pytest.raises(ValueError, match='it has more than 32 levels'):
    read_chosen(path, everything)


def test_damaged_bytes_are_arrays_or_an_error(tmp_path):
  path, rng = tmp_path / 'x', np.random.default_rng(0)
  write_flax(path, ARRAYS)
  whole, read = path.read_bytes(), []
  for _ in range(300):
    data = bytearray(whole)
    data[rng.integers(len(data))] = rng.integers(256)
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
      read.append(read_chosen(path, everything))
  assert 0 < len(read) < 300


def refused(path, data, match):
  path.write_bytes(data)
  with pytest.raises(ValueError, match=match):
    read_chosen(path, everything)


@pytest.mark.parametrize(
  'many',
  [
    b'\x80' * 2_000_000,  # empty dicts
    b'\xdd\xff\xff\xff\xff' * 9,  # lists that claim to be long
  ],
)
def test_many_objects_are_refused_before_they_are_made(tmp_path, many):
  """Flax would take hundreds of times the size of the file."""
  start = b'\x81\xa1a\xdd' + (2_000_000).to_bytes(4, 'big')
  tracemalloc.start()
  refused(tmp_path / 'x', start + many, 'it has more than 1,000,000 objects')
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 2e7


def test_objects_in_arrays_count_too(tmp_path):
  inner = b'\xdd\x00\x20\x00\x00' + b'\x80' * 2**21
  data = msgpack.packb({'a': msgpack.ExtType(1, inner)})
  refused(tmp_path / 'x', data, 'it has more than 1,000,000 objects')


def test_two_arrays_of_one_name_are_refused(tmp_path):
  one = np.ones(2, np.float32)
  tree = {'a.b': one, 'a': {'b': 2 * one}}
  path = tmp_path / 'x'
  refused(path, serialization.msgpack_serialize(tree), r'a\.b appears twice')
  (pair,) = serialization.msgpack_serialize({'a': one}).split(b'\x81', 1)[1:]
  refused(path, b'\x82' + pair + pair, 'a appears twice')


def test_long_names_are_refused(tmp_path):
  tree = {'w': {'a' * 2000: np.ones(2)}}
  data = serialization.msgpack_serialize(tree)
  refused(tmp_path / 'x', data, r'a\.\.\. has more than 1000 characters')
