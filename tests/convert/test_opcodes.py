"""Pickles that attack what reads them: refused, in bounded time and memory."""

import io
import pickle
import pickletools
import time
import tracemalloc

import pytest

from flowdistill.convert import opcodes
from flowdistill.convert.opcodes import interpret
from flowdistill.convert.pickle_machine import Call, Named, Table
from flowdistill.convert.tensors import tensors_of

PUT, GET = b'r', b'j'  # LONG_BINPUT, LONG_BINGET
MANY = 50_000


def run(data):
  return interpret(io.BytesIO(b'\x80\x02' + data + b'.'))


def test_values_are_those_of_pickle():
  values = [
    *(None, True, False, 0, -1, 255, 65536, 2**80, -(2**80), 0.5, 'ä', b'x'),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], [[1], ['a']]),
  ]
  for protocol in range(6):
    if protocol > 2:  # before, bytes are a call
      assert interpret(io.BytesIO(pickle.dumps(values, protocol))) == values
    table = interpret(io.BytesIO(pickle.dumps({'a': [1], 2: {}}, protocol)))
    assert table == Table([('a', [1]), (2, Table([]))])


def test_a_call_is_stored_and_not_made():
  calls = run(b'cnumpy\ndtype\n(U\x02f4K\x00K\x01tR')
  assert calls == Call('numpy.dtype', ('f4', 0, 1), [])
  assert run(b'c__builtin__\nset\n') == Named('builtins.set')
  for name in (b'os\nsystem', b'builtins\neval', b'torch\nload', b'\n'):
    with pytest.raises(ValueError, match='it names .*is not executed'):
      run(b'c' + name + b'\n')


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'0',
    b'a',
    b'e',
    b'u',
    b'R',
    b'K\x01K\x02R',
    b')K\x02R',
    b'K\x01K\x02a',
    b'}K\x01a',
    b']K\x01K\x01s',
    b'(K\x01u',
    b'}(K\x01u',
    b't',
    b'1',
    b'K\x01)b',
    b'ctorch\nSize\n}b',
    b'K\x01\x93',
    b'K\x01K\x02\x93',
    b'h\x05',
    b'j\xff\xff\xff\xff',
    b'q\x05',
    b'Q',
    b'K\x01Q',
    b'Pid\n',
    b'\x82\x01',
    b'itorch\nSize\n',
    b'(ctorch\nSize\no',
    b'\x97',
    b'X\xff\xff\xff\xff',
    b'\x8d' + b'\xff' * 8,
    b'\x8e' + b'\xff' * 7 + b'\x7f',
    b'\x96' + b'\xff' * 8,
    b'\x8b\xff\xff\xff\xff',
    b'\x8b\xff\xff\xff\x7f',
    b'B\xff\xff\xff\xff',
    b'T\xff\xff\xff\xff',
    b'\x8c\xff',
    b'X\x01\x00\x00\x00\xff',
    b'I' + b'9' * 9999 + b'\n',
    b'L' + b'9' * 9999 + b'L\n',
    b'Fx\n',
    b'Sx\n',
    b'V\\u12\n',
    b'g' + b'9' * 9999 + b'\n',
    b'\xff',
  ],
)
def test_what_is_no_pickle_raises(data):
  for whole in (data + b'.', data):  # for many reasons
    with pytest.raises(ValueError, match='.'):
      interpret(io.BytesIO(b'\x80\x02' + whole))


def nested(opcode, start=b')'):
  return start + opcode * MANY


def shared(levels=60):
  """A tuple of two that are one, and so on: 2^60 leaves."""
  data = b')' + PUT + (0).to_bytes(4, 'little')
  for i in range(levels):
    last = i.to_bytes(4, 'little')
    data += GET + last + GET + last + b'\x86'
    data += PUT + (i + 1).to_bytes(4, 'little')
  return data


def with_key(key):
  return b'}' + key + b'Ns'


def calls(count):
  """OrderedDict(pairs), of the same 1000 pairs each time."""
  pairs = b'](' + b'K\x01K\x02\x86' * 1000 + b'e'
  call = b'ccollections\nOrderedDict\n' + GET + bytes(4) + b'\x85R'
  return b'(' + pairs + PUT + bytes(4) + call * count + b't'


def names(count):
  """A name of a megabyte, looked up each time."""
  long = b'X' + (2**20).to_bytes(4, 'little') + b'f' * 2**20 + b'q\x01'
  return (
    b'X\x05\x00\x00\x00torchq\x00' + long + b'(' + b'h\x00h\x01\x93' * count
  )


def cycle():
  return b']q\x00h\x00a'


ATTACKS = {
  'a tuple of tuples': nested(b'\x85'),
  'as a key': with_key(nested(b'\x85')),
  'as an argument': b'ctorch\nSize\n' + nested(b'\x85') + b'R',
  'as an id': nested(b'\x85') + b'Q',
  'as a function': nested(b'\x85') + b')R',
  'lists': b'(' + b']' * MANY + b'a' * (MANY - 1),
  'calls': b'ctorch\nSize\n' * 9 + nested(b'\x85R', b'ctorch\nSize\n)R'),
  'a key of 2^60 leaves': with_key(shared()),
  'in a set': b'\x8f(' + shared() + b'\x90',
  'in a frozen set': b'(' + shared() + b'\x91',
  'a memo of 4 G': b'K\x01' + PUT + b'\xfe\xff\xff\xff',
  'a memo by text': b'K\x01p' + b'9' * 99 + b'\n',
  'copies of pairs': calls(5000),
  'long names': names(50_000),
  'marks': b'(' * MANY,
  'a list in itself': cycle(),
  'a frame of 2^63': b'\x95' + b'\xff' * 8 + b'N',
  'a key of two kinds': with_key(b'N') + with_key(b'G' + b'\x7f' * 8),
}


@pytest.mark.parametrize('name', ATTACKS)
def test_an_attack_takes_little_time_and_memory(name):
  data, before = ATTACKS[name], time.process_time()
  tracemalloc.start()
  try:
    tensors_of(run(data))
  except ValueError:
    pass
  finally:
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  assert time.process_time() - before < 5
  assert most < 10_000_000 + 300 * len(data)


def test_it_ends_after_so_many_opcodes(monkeypatch):
  monkeypatch.setattr(opcodes, 'MOST', 1000)
  assert run(b'N0' * 400 + b'N') is None
  with pytest.raises(ValueError, match='more than 1000 opcodes'):
    run(b'N0' * 600 + b'N')


def test_every_opcode_of_pickle_is_known_or_refused_by_its_name():
  refused = {each.name for each in pickletools.opcodes} - set(opcodes.OPCODES)
  assert refused == {
    *('STOP', 'EXT1', 'EXT2', 'EXT4', 'INST', 'OBJ', 'PERSID'),
    *('NEXT_BUFFER', 'READONLY_BUFFER'),
  }
  with pytest.raises(ValueError, match='the opcode EXT1'):
    run(b'\x82\x01')


def test_what_follows_is_the_next_pickle():
  file = io.BytesIO(pickle.dumps(1, 2) + pickle.dumps('b', 2) + b'rest')
  assert [interpret(file), interpret(file), file.read()] == [1, 'b', b'rest']


def test_dicts_of_every_making():
  table = Table([('a', 1)])
  made = {
    b'ccollections\nOrderedDict\n)RU\x01aK\x01s': table,
    b'ccollections\nCounter\n}U\x01aK\x01s\x85R': table,
    b'ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RU\x01aK\x01s': table,
    b'(U\x01aK\x01d': table,
    b'ccollections\nOrderedDict\n)RU\x01aK\x01s}U\x01bK\x02sb': table,
    # Python 2 wrote the pairs as lists.
    b'ccollections\nOrderedDict\n](](U\x01aK\x01ee\x85R': Table([['a', 1]]),
  }
  for data, expected in made.items():
    assert run(data) == expected
