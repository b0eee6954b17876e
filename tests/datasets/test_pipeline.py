"""Batches: their order is a function of (seed, position) alone."""

import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.datasets import DATASETS
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.source import Source
from flowdistill.flow.spec import DataSpec

ROOT = pathlib.Path(__file__).parents[2]


def numbers(n):
  """A source whose example i is the number i."""
  return Source(DataSpec((1,)), {'x0': np.arange(n, dtype=np.float32)[:, None]})


def read(count, n=10, **options):
  """The numbers of the first `count` batches, int [count, b]."""
  batches = make_batches(numbers(n), **options)
  taken = itertools.islice(batches, count)
  return np.stack([b['x0'][:, 0] for b in taken]).astype(int)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 9))
def test_every_epoch_is_a_permutation(n, batch_size, seed):
  """Also where a batch reaches over its end, or is larger than the data."""
  count = -(-4 * n // batch_size)
  order = read(count, n, batch_size=batch_size, seed=seed).ravel()
  epochs = order[: 4 * n].reshape(4, n)
  assert (np.sort(epochs, axis=1) == np.arange(n)).all()


def test_no_epoch_is_like_another_nor_like_another_seeds():
  epochs = np.concatenate(
    [read(20, 50, batch_size=50, seed=seed) for seed in (0, 1, 2)]
  )
  assert len(np.unique(epochs, axis=0)) == len(epochs) == 60


def test_an_epoch_is_well_mixed():
  """Each example is in the first half of an epoch as often as in the second."""
  first = read(400, 20, batch_size=20, seed=3)[:, :10]
  share = np.bincount(first.ravel(), minlength=20) / 400
  assert np.abs(share - 0.5).max() < 4 * 0.5 / np.sqrt(400)


@given(st.integers(0, 40), st.integers(1, 25))
def test_starting_late_is_dropping_batches(start, batch_size):
  whole = read(start + 3, batch_size=batch_size, seed=5)
  late = read(3, batch_size=batch_size, seed=5, start=start)
  np.testing.assert_array_equal(late, whole[start:])


def test_it_starts_at_a_far_position_at_once():
  far = 10**9
  late = read(5, 7, batch_size=7, seed=0, start=far)
  assert (np.sort(late, axis=1) == np.arange(7)).all()
  np.testing.assert_array_equal(
    late[2:], read(3, 7, batch_size=7, seed=0, start=far + 2)
  )


@pytest.mark.parametrize('count', [2, 3])
def test_the_rows_of_all_hosts_are_those_of_one(count):
  whole = read(8, batch_size=6, seed=1, start=2)
  hosts = [
    read(8, batch_size=6, seed=1, start=2, process=(p, count))
    for p in range(count)
  ]
  assert {h.shape for h in hosts} == {(8, 6 // count)}
  np.testing.assert_array_equal(np.concatenate(hosts, axis=1), whole)


@given(st.integers(1, 14), st.sampled_from([(1, 2), (2, 4), (4, 2), (4, 1)]))
def test_with_other_hosts_an_epoch_is_still_a_permutation(position, counts):
  """An interruption, and then another number of them goes on."""
  parts = []
  for start, end, count in zip(
    (0, position), (position, 15), counts, strict=True
  ):
    where = {'batch_size': 4, 'seed': 3, 'start': start}
    hosts = [
      read(end - start, 10, process=(p, count), **where) for p in range(count)
    ]
    parts.append(np.concatenate(hosts, axis=1))
  epochs = np.concatenate(parts).reshape(6, 10)
  assert (np.sort(epochs, axis=1) == np.arange(10)).all()


def test_the_arrays_of_an_example_stay_together():
  source = DATASETS['digits']()
  batch = next(make_batches(source, batch_size=64, seed=0))
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    'x0': ((64, 8, 8, 1), np.float32),
    'label': ((64,), np.int32),
  }
  x0 = source.arrays['x0']
  for image, label in zip(batch['x0'], batch['label'], strict=True):
    same = (x0 == image).all(axis=(1, 2, 3))
    assert label in source.arrays['label'][same]


def test_a_batch_is_a_copy():
  source = numbers(4)
  next(make_batches(source, batch_size=4, seed=0))['x0'][:] = -1
  assert source.arrays['x0'].min() == 0


def test_bytes_are_the_same_in_another_process():
  """Which also ends by itself, though Grain reads ahead in a thread."""
  code = (
    'from flowdistill.datasets import DATASETS\n'
    'from flowdistill.datasets.pipeline import make_batches\n'
    "batches = make_batches(DATASETS['digits'](), batch_size=100, seed=7)\n"
    "print(b''.join(next(batches)['x0'].tobytes() for _ in range(20)).hex())"
  )
  other = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
    timeout=120,
  )
  batches = make_batches(DATASETS['digits'](), batch_size=100, seed=7)
  here = b''.join(next(batches)['x0'].tobytes() for _ in range(20))
  assert bytes.fromhex(other.stdout) == here


def test_the_order_never_changes():
  """By value: a run from last year is continued with the same examples."""
  order = read(2, 8, batch_size=8, seed=0)
  assert order.tolist() == [
    [5, 3, 0, 1, 2, 4, 7, 6],
    [6, 3, 4, 7, 2, 0, 1, 5],
  ]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch_size': 0}, 'batch_size = 0.*at least 1'),
    ({'seed': -1}, 'seed = -1.*at least 0'),
    ({'start': -2}, 'start = -2.*at least 0'),
    ({'process': (2, 2)}, r'process = \(2, 2\).*0 <= p < P'),
    (
      {'batch_size': 10, 'process': (0, 4)},
      'batch_size = 10 must be a multiple of 4, .* such as 8 or 12',
    ),
    (
      {'batch_size': 3, 'process': (0, 4)},
      'batch_size = 3 must be a multiple of 4, .* such as 4',
    ),
  ],
)
def test_bad_values_are_refused_at_once(options, message):
  with pytest.raises(ValueError, match=message):
    make_batches(numbers(10), **{'batch_size': 4, 'seed': 0, **options})
