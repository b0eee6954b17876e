"""Streams: a toy of shards, and what the pipeline makes of one."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.source import Source
from flowdistill.datasets.stream import Stream, length_of
from flowdistill.flow.spec import DataSpec

SPEC = DataSpec.labelled((1,), 4)
SHARDS = np.split(np.arange(30), [7, 9, 20])  # of 7, 2, 11 and 10 examples


@dataclasses.dataclass
class Shards:
  """The numbers of some shards; each epoch has the shards in another order."""

  shards: list = dataclasses.field(default_factory=lambda: SHARDS)
  spec: DataSpec = SPEC
  num_samples: int | None = 30
  epochs: int | None = None

  def examples(self, seed):
    for epoch in itertools.count():
      if epoch == self.epochs:
        return
      order = np.random.default_rng([seed, epoch]).permutation(len(self.shards))
      for k in order:
        yield from ((number, k) for number in self.shards[k])

  def batches(self, batch_size, *, seed, start, process):
    index, count = process
    rows = batch_size // count
    examples = self.examples(seed)
    for k in itertools.count():
      numbers = list(itertools.islice(examples, batch_size))
      if len(numbers) < batch_size:
        return
      if k >= start:
        mine = np.array(numbers[index * rows : (index + 1) * rows])
        x0, label = mine[:, :1].astype(np.float32), mine[:, 1]
        yield {'x0': x0, 'label': label.astype(np.int32)}


def read(count, **options):
  """(numbers, labels) of the first `count` batches, int [count, b]."""
  taken = itertools.islice(make_batches(Shards(), **options), count)
  batches = [(b['x0'][:, 0].astype(int), b['label']) for b in taken]
  return map(np.stack, zip(*batches, strict=True))


@given(st.integers(0, 25), st.integers(1, 12), st.integers(0, 3))
def test_starting_late_is_dropping_batches(start, batch_size, seed):
  whole, _ = read(start + 3, batch_size=batch_size, seed=seed)
  late, _ = read(3, batch_size=batch_size, seed=seed, start=start)
  np.testing.assert_array_equal(late, whole[start:])


def test_batches_stay_in_the_order_of_the_stream():
  """Though Grain reads ahead."""
  numbers, labels = read(50, batch_size=6, seed=2)
  expected = [*itertools.islice(Shards().examples(2), 300)]
  assert [*zip(numbers.ravel(), labels.ravel(), strict=True)] == expected


@pytest.mark.parametrize('count', [2, 3])
def test_the_rows_of_all_processes_are_those_of_one(count):
  whole, _ = read(5, batch_size=6, seed=1, start=2)
  parts = [
    read(5, batch_size=6, seed=1, start=2, process=(p, count))
    for p in range(count)
  ]
  rows = np.concatenate([numbers for numbers, _ in parts], axis=1)
  np.testing.assert_array_equal(rows, whole)


def test_processes_share_no_example_of_an_epoch():
  first, second = (
    set(next(read(5, batch_size=6, seed=0, process=(p, 2))).ravel())
    for p in (0, 1)
  )
  assert not first & second
  assert first | second == set(range(30))


def test_the_length():
  assert isinstance(Shards(), Stream)
  assert length_of(Shards()) == 30
  assert length_of(Shards(num_samples=None)) is None
  table = Source(DataSpec((1,)), {'x0': np.zeros((5, 1), np.float32)})
  assert not isinstance(table, Stream)
  assert length_of(table) == 5


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch_size': 0}, 'batch_size = 0 must be at least 1'),
    ({'seed': -1}, 'seed = -1 must be at least 0'),
    ({'start': -2}, 'start = -2 must be at least 0'),
    ({'process': (2, 2)}, r'process = \(2, 2\) must be \(p, P\)'),
    ({'process': (0, 3)}, 'batch_size = 4 must be a multiple of 3, .* 3 or 6'),
  ],
)
def test_bad_values_are_refused_at_once(options, message):
  with pytest.raises(ValueError, match=message):
    make_batches(Shards(), **{'batch_size': 4, 'seed': 0, **options})


def test_a_stream_that_ends_is_an_error():
  batches = make_batches(Shards(epochs=1), batch_size=8, seed=0, start=1)
  assert [len(next(batches)['x0']) for _ in range(2)] == [8, 8]
  with pytest.raises(ValueError, match='ended before batch 3; it must be endl'):
    next(batches)


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    (
      DataSpec((2,)),
      r'batch 7: x0 = float32 \[4, 1\] must be float32 \[4, 2\]',
    ),
    (DataSpec((1,), {'text': SPEC.cond['label']}), 'batch 7: text is missing'),
  ],
)
def test_batches_that_do_not_match_the_spec_are_refused(spec, message):
  batches = make_batches(Shards(spec=spec), batch_size=4, seed=0, start=7)
  with pytest.raises(ValueError, match=message):
    next(batches)


def test_an_empty_stream_is_refused():
  with pytest.raises(ValueError, match='the data set is empty'):
    make_batches(Shards(num_samples=0), batch_size=4, seed=0)
