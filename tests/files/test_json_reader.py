"""The reader of JSON: whatever is in a file, a value or a named reason."""

import json
import os
import random
import signal

import numpy as np
import pytest

from flowdistill.files.json_reader import (
  DamagedFileError,
  fields,
  read_json,
  signed,
)
from flowdistill.training.json_files import write_json

VALUE = {
  'config': {'steps': 300, 'rate': 1e-3, 'name': 'größe', 'none': None},
  'rows': [{'nfe': 4, 'fid': 2.5, 'on': True}, []],
}
WRONG = {
  b'': 'is empty',
  b' \n\t': 'is empty',
  b'\0' * 40: 'has only zero bytes',
  b'{"a": 1': 'is cut at column 8',
  b'{"a":\n "b': 'is cut at line 2, column 2',
  b'{"a": 1}\0\0': 'is not JSON at column 9: Extra data',
  b'{"a": 1} x': 'is not JSON at column 10',
  b'{a: 1}': 'is not JSON at column 2',
  b'{"a": "\xff"}': 'is not UTF-8 at byte 7',
  b'\xff\xfe{\0}\0': 'is not UTF-8 at byte 0',
  b'\x89PNG\r\n': 'is not UTF-8 at byte 0',
  b'{"a": NaN}': 'has NaN, which is no number of JSON',
  b'{"a": -Infinity}': 'has -Infinity',
  b'{"a": 1e999}': 'has the number 1e999, which is too large',
  b'{"a": %d}' % 2**64: 'has the number 18446744073709551616, which is too',
  b'{"a": %s}' % (b'9' * 10**6): 'has the number 9{40}, which is too large',
  b'{"a": 1, "b": {"c": 1, "c": 2}}': "has the key 'c' twice",
  b'[' * 10**5: 'is nested too deeply',
  b'{"a":' * 10**5: 'is nested too deeply',
  b'[1]': 'it must be an object, and is a list',
  b'null': 'it must be an object, and is null',
  b'3': 'it must be an object, and is an integer',
}


@pytest.mark.parametrize('data', WRONG, ids=lambda data: ascii(data[:16]))
def test_what_is_wrong_is_named(data, tmp_path):
  path = tmp_path / 'config.json'
  path.write_bytes(data)
  with pytest.raises(DamagedFileError, match=WRONG[data]) as error:
    read_json(path)
  assert str(error.value).startswith(f'{path} ')
  assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'fifo')
  for path in (tmp_path / 'fifo', '/dev/zero', tmp_path):
    with pytest.raises(OSError, match=r'is not a regular|Is a directory'):
      read_json(path)
  with pytest.raises(FileNotFoundError, match='none'):
    read_json(tmp_path / 'none')


def test_our_files_are_plain_json_for_others(tmp_path):
  write_json(tmp_path / 'a', VALUE)
  text = (tmp_path / 'a').read_text()
  assert json.loads(text) == read_json(tmp_path / 'a') == VALUE
  shown = text.rstrip()
  assert shown == json.dumps(VALUE, indent=2)
  # An editor that trims blanks, one with a byte order mark, an older version.
  for other in (shown, f'{shown}\n', f'\ufeff{shown}\r\n', f'{shown}\n\n'):
    (tmp_path / 'a').write_bytes(other.replace('300', '400').encode())
    assert read_json(tmp_path / 'a')['config']['steps'] == 400
  (tmp_path / 'a').write_text(text.replace('300', '400'))
  with pytest.raises(DamagedFileError, match='If you have changed it yourself'):
    read_json(tmp_path / 'a')


def test_flipped_bits_are_found(tmp_path):
  data = signed(json.dumps(VALUE['rows'][0], indent=2))
  for at in range(0, 8 * len(data), 5):
    flipped = bytearray(data)
    flipped[at // 8] ^= 1 << at % 8
    (tmp_path / 'a').write_bytes(flipped)
    if at // 8 == len(data) - 1:  # the last newline may be anything blank
      continue
    with pytest.raises(DamagedFileError):
      read_json(tmp_path / 'a')


def test_a_file_that_is_cut_is_never_another(tmp_path):
  data = signed(json.dumps(VALUE, indent=2))
  for size in range(len(data)):
    (tmp_path / 'a').write_bytes(data[:size])
    try:
      assert read_json(tmp_path / 'a') == VALUE  # only its checksum is cut
    except DamagedFileError:
      continue


@pytest.mark.parametrize(
  ('record', 'why'),
  [
    ({}, "it has no 'step'"),
    ({'step': True}, "'step' must be an integer, and is true or false"),
    ({'step': 1.5}, "'step' must be an integer, and is a number"),
    ({'step': '1'}, "'step' must be an integer, and is a text"),
  ],
)
def test_a_key_must_have_its_kind(record, why):
  with pytest.raises(DamagedFileError, match=f'x.json was not written .*{why}'):
    fields(record, {'step': int}, 'x.json')
  assert fields({'step': 1, 'x': 2}, {'step': float}, 'x') == {
    'step': 1,
    'x': 2,
  }


def mutated(data, rng):
  """Bytes of a file after some accident."""
  data = bytearray(data)
  for _ in range(rng.randrange(1, 4)):
    at, size = rng.randrange(len(data) + 1), rng.randrange(12)
    other = rng.randbytes(size), bytes(size), data[at : at + size], NASTY
    new = other[rng.randrange(4)]
    if new is NASTY:
      new = rng.choice(NASTY)
    data[at : at + rng.choice((0, size))] = new
  return bytes(data[: rng.choice((None, rng.randrange(len(data) + 1)))])


def reading(path):
  """(value, reason why there is none)."""
  try:
    return read_json(path), ''
  except DamagedFileError as error:
    return None, str(error)


NASTY = [
  *(b'{', b'[' * 5000, b'"', b'\\u0', b'\\ud800', b'1e400', b'-', b'9' * 5000),
  *(b'NaN', b'null', b',', b':', b'\xef\xbb\xbf', b'\xed\xa0\x80', b'\n' * 3),
]


@pytest.mark.parametrize(
  'tries', [300, pytest.param(60_000, marks=pytest.mark.slow)]
)
def test_fuzzed_files_end_in_a_value_or_in_one_line(tries, tmp_path):
  rng, path = random.Random(14), tmp_path / 'results.json'
  seeds = [signed(json.dumps(VALUE)), json.dumps(VALUE, indent=2).encode()]
  signal.alarm(300)
  try:
    for k in range(tries):
      data = mutated(seeds[k % 2], rng)
      path.write_bytes(data)
      value, why = reading(path)
      if why:
        assert str(path) in why and len(why) < 500 and '\n' not in why
      else:
        assert value == json.loads(data.decode('utf-8-sig'))
  finally:
    signal.alarm(0)


def test_numbers_of_a_run_fit():
  value = [2**64 - 1, -(2**63), 1e308, float(np.float32(1e-45))]
  assert json.loads(signed(json.dumps(value))) == value
