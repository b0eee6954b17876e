"""The split rule: disjoint, complete, near its share, and for ever the same."""

import hashlib
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.datasets.split import (
  SPLITS,
  hash_of,
  is_member,
  split_indices,
  split_places,
)

KEYS = st.integers(0, 2**40) | st.text('ab/0.', max_size=8)


def test_the_members_never_change():
  """By value: a run from last year holds out the same digits."""
  held_out = split_indices(1797, 'validation')
  assert len(held_out) == 180
  assert held_out[:8].tolist() == [18, 29, 47, 55, 66, 71, 72, 90]
  names = [
    s for s in 'abcdefghijklmnopqrstuvwxyz' if is_member(s, 'validation')
  ]
  assert names == ['e', 'p', 'u', 'y']


@given(KEYS)
def test_every_key_is_in_one_of_the_two(key):
  assert is_member(key, 'all')
  assert is_member(key, 'train') != is_member(key, 'validation')


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_near_what_is_asked(share):
  found = [is_member(i, 'validation', validation=share) for i in range(20_000)]
  assert sum(found) / len(found) == pytest.approx(share, abs=0.01)


def test_a_larger_share_keeps_who_was_held_out():
  small = {i for i in range(999) if is_member(i, 'validation', validation=0.1)}
  large = {i for i in range(999) if is_member(i, 'validation', validation=0.2)}
  assert small < large


def test_more_examples_leave_the_others_where_they_are():
  few, many = (
    split_indices(100, 'validation'),
    split_indices(1000, 'validation'),
  )
  assert many[: len(few)].tolist() == few.tolist()


@pytest.mark.parametrize('share', [0.001, 0.5, 0.999])
@pytest.mark.parametrize('start', range(0, 200, 20))
def test_of_few_examples_one_is_held_out_and_one_is_not(share, start):
  keys = [f'{k}.png' for k in range(start, start + 5)]
  held, train = (
    split_places(keys, s, validation=share) for s in ('validation', 'train')
  )
  assert len(held) and len(train)
  assert sorted([*held, *train]) == [0, 1, 2, 3, 4]
  hashed = [is_member(key, 'validation', validation=share) for key in keys]
  if 0 < sum(hashed) < len(keys):
    np.testing.assert_array_equal(held, np.flatnonzero(hashed))


def test_a_share_of_nothing_or_all_stays():
  for split, share in (('validation', 0.0), ('train', 1.0)):
    with pytest.raises(ValueError, match=f"'{split}' of 9 examples is empty"):
      split_indices(9, split, validation=share)


def test_a_name_that_is_not_utf_8_has_the_hash_of_its_bytes():
  name = b'caf\xe9.png'.decode('utf-8', 'surrogateescape')
  digest = hashlib.blake2b(b'caf\xe9.png', digest_size=8).digest()
  assert hash_of(name) == int.from_bytes(digest, 'big')
  assert hash_of('é.png') == hash_of('\udcc3\udca9.png')


def test_bad_values_are_refused():
  with pytest.raises(ValueError, match="split = 'test'.*'train'"):
    is_member(0, 'test')
  with pytest.raises(ValueError, match=r'validation = 1\.5.*\[0, 1\]'):
    is_member(0, 'train', validation=1.5)
  with pytest.raises(ValueError, match="'validation' of 1 examples is empty"):
    split_indices(1, 'validation')


def test_a_list_holds_out_the_places_of_its_keys(tmp_path):
  path = tmp_path / 'held.txt'
  path.write_text(' 7\n\n2 \n')
  keys = [2, 5, 7, 9]
  found = {
    s: split_places(keys, s, held_out=str(path)).tolist() for s in SPLITS
  }
  assert found == {'all': [0, 1, 2, 3], 'train': [1, 3], 'validation': [0, 2]}


@pytest.mark.parametrize(
  'text',
  [
    b'\xef\xbb\xbfa b.png\r\ncaf\xe9.png\r\n',
    b'  a b.png  \n\n\ncaf\xe9.png',
    b'caf\xe9.png\na b.png\na b.png\n',
  ],
)
def test_a_list_as_other_programs_write_it(tmp_path, text):
  path = tmp_path / 'held.txt'
  path.write_bytes(text)
  latin = b'caf\xe9.png'.decode('utf-8', 'surrogateescape')
  keys = ['a b.png', 'other.png', latin]
  found = split_places(keys, 'validation', held_out=str(path))
  assert found.tolist() == [0, 2]


@pytest.mark.parametrize(
  'name', [' a.png', 'a\u2028.png', 'a\x0c.png', 'a\x85']
)
def test_names_with_strange_spaces_can_be_listed(tmp_path, name):
  path = tmp_path / 'held.txt'
  path.write_text(name + '\n', 'utf-8')
  found = split_places(['b', name], 'validation', held_out=str(path))
  assert found.tolist() == [1]


def test_a_list_that_is_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'held.txt')
  with pytest.raises(ValueError, match='cannot be read: it is not a regular'):
    split_places([1, 2], 'all', held_out=str(tmp_path / 'held.txt'))


def test_a_list_that_is_wrong_is_refused_in_every_split(tmp_path):
  path = tmp_path / 'held.txt'
  path.write_text('2\n3\n')
  for split in SPLITS:
    with pytest.raises(
      ValueError, match="no example is '3'; they .* as '1' is"
    ):
      split_places([1, 2], split, held_out=str(path))
  path.write_bytes(b'\xff\xfe\xff')
  for bad in (path, tmp_path / 'none', tmp_path):
    with pytest.raises(ValueError, match=f'held_out = .*{bad.name}.*cannot'):
      split_places([1, 2], 'all', held_out=str(bad))
