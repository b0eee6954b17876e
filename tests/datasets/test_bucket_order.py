"""The order of batches of one bucket each."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.datasets.bucket_order import BucketOrder

BUCKETS = st.lists(st.integers(0, 3), min_size=1, max_size=40).map(np.asarray)


def batches(bucket_of, batch_size, seed, count, start=0):
  order = BucketOrder(bucket_of, batch_size, seed)
  return [order.batch(k) for k in range(start, start + count)]


@given(BUCKETS, st.integers(1, 12), st.integers(0, 5))
def test_every_pass_through_a_bucket_has_each_of_its_pictures_once(
  bucket_of, batch_size, seed
):
  shown = collections.defaultdict(list)
  for bucket, pictures in batches(bucket_of, batch_size, seed, 25):
    assert len(pictures) == batch_size
    assert (bucket_of[pictures] == bucket).all()  # one shape per batch
    shown[bucket] += pictures.tolist()
  for bucket, pictures in shown.items():
    members = np.flatnonzero(bucket_of == bucket)
    for first in range(0, len(pictures), len(members)):
      one = pictures[first : first + len(members)]
      assert len(set(one)) == len(one)  # nothing twice
      if len(one) == len(members):
        assert sorted(one) == members.tolist()  # nothing lost


@given(BUCKETS, st.integers(1, 12), st.integers(1, 6))
def test_less_than_a_batch_of_a_bucket_is_carried_over_an_epoch(
  bucket_of, batch_size, epochs
):
  order = BucketOrder(bucket_of, batch_size, 3)
  had = collections.Counter(
    order.batch(k)[0] for k in range(order.before(epochs))
  )
  for bucket, size in collections.Counter(bucket_of.tolist()).items():
    left = epochs * size - had[bucket] * batch_size
    assert 0 <= left < batch_size


@given(BUCKETS, st.integers(1, 9), st.integers(0, 10**6))
def test_the_epoch_of_a_batch_is_the_one_that_holds_it(
  bucket_of, batch_size, k
):
  order = BucketOrder(bucket_of, batch_size, 0)
  epoch = order.epoch_of(k)
  assert order.before(epoch) <= k < order.before(epoch + 1)


@given(BUCKETS, st.integers(1, 9), st.integers(0, 30))
def test_starting_late_is_dropping_batches(bucket_of, batch_size, start):
  """From the middle of a bucket and of an epoch, in a fresh process."""
  whole = batches(bucket_of, batch_size, 5, start + 4)
  late = batches(bucket_of, batch_size, 5, 4, start)
  for (a, ours), (b, theirs) in zip(late, whole[start:], strict=True):
    assert a == b
    np.testing.assert_array_equal(ours, theirs)


def test_buckets_take_turns_at_random():
  """Half of the pictures of each are in the first half of an epoch."""
  order = BucketOrder(np.repeat([0, 1, 2], [30, 20, 10]), 1, 0)
  places = [60 * epoch + k for epoch in range(80) for k in range(30)]
  first = [order.batch(k)[0] for k in places]
  share = np.bincount(first) / (80 * np.asarray([30, 20, 10]))
  assert np.abs(share - 0.5).max() < 0.07


def test_epochs_seeds_and_buckets_have_different_orders():
  bucket_of = np.repeat([0, 1], 20)
  orders = set()
  for seed in range(3):
    order = BucketOrder(bucket_of, 20, seed)
    for k in range(40):
      bucket, pictures = order.batch(k)
      orders.add(tuple((pictures - 20 * bucket).tolist()))
  assert len(orders) == 3 * 40


def test_the_order_never_changes():
  """By value: a run from last year is continued with the same pictures."""
  found = batches(np.asarray([0, 1, 0, 1, 0, 2, 0]), 2, 0, 7)
  assert [(bucket, pictures.tolist()) for bucket, pictures in found] == [
    (0, [2, 6]),
    (0, [4, 0]),
    (1, [1, 3]),
    (1, [3, 1]),
    (0, [2, 4]),
    (2, [5, 5]),
    (0, [6, 0]),
  ]


def test_it_is_quick_at_a_far_position():
  order = BucketOrder(np.arange(100_000) % 41, 256, 0)
  bucket, pictures = order.batch(10**9)
  assert (pictures % 41 == bucket).all()


def test_a_bucket_that_is_smaller_than_a_batch_waits_until_it_fills_one():
  found = batches(np.asarray([0] * 9 + [1]), 5, 0, 10)
  assert [bucket for bucket, _ in found].count(1) == 1
  assert {tuple(p) for b, p in found if b == 1} == {(9,) * 5}


@pytest.mark.parametrize('count', [2, 3])
def test_an_empty_bucket_gets_no_turn(count):
  found = batches(np.asarray([0, 2] * count), 2, 0, 12)
  assert {bucket for bucket, _ in found} == {0, 2}
