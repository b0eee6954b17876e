"""The split rule: disjoint, complete, near its share, and for ever the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.datasets.split import (
  SPLITS,
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


def test_a_list_that_is_wrong_is_refused_in_every_split(tmp_path):
  path = tmp_path / 'held.txt'
  path.write_text('2\n3\n')
  for split in SPLITS:
    with pytest.raises(ValueError, match="held.txt': no example is '3'"):
      split_places([1, 2], split, held_out=str(path))
  path.write_bytes(b'\xff\xfe\xff')
  for bad in (path, tmp_path / 'none', tmp_path):
    with pytest.raises(ValueError, match=f'held_out = .*{bad.name}.*cannot'):
      split_places([1, 2], 'all', held_out=str(bad))
