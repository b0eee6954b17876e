"""Tar shards as a stream: exact, shuffled, shared out, and hard to break."""

import dataclasses
import io
import itertools
import os
import time
import tracemalloc

import numpy as np
import PIL.Image
import pytest
from datasets import tiny_shards
from datasets.tiny_shards import (
  Numbers,
  png,
  sample,
  write,
  write_shards,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from flowdistill.datasets import command_output, retried, shard_stream
from flowdistill.datasets.index_files import make_index
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.shard_stream import ahead
from flowdistill.datasets.stream import Stream, length_of
from flowdistill.datasets.webdataset import webdataset

SIZES = [5, 7, 4, 9]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Shards of 25 samples; as one path, without an index."""
  path = tmp_path_factory.mktemp('shards')
  write_shards(path, SIZES)
  return path


def stream(path, **options):
  options = {'size': 8, 'buffer': 6, 'index': False, **options}
  return webdataset(path=str(path), **options).encoded_by(Numbers())


def read(source, count, **options):
  """The numbers of the first batches, int [count, b]."""
  options = {'batch_size': 4, 'seed': 0, **options}
  taken = itertools.islice(make_batches(source, **options), count)
  return np.stack([batch['number'] for batch in taken])


@pytest.mark.parametrize('indexed', [False, True])
def test_starting_late_is_dropping_batches(tmp_path, indexed):
  """In the middle of a shard, of the buffer, and of an epoch."""
  for shard in write_shards(tmp_path, SIZES):
    if indexed:
      make_index(str(shard))
  source = stream(tmp_path)
  whole = read(source, 40)
  for start in (0, 1, 2, 5, 6, 7, 13, 25, 36):
    np.testing.assert_array_equal(
      read(source, 4, start=start), whole[start : start + 4]
    )


@settings(max_examples=15, deadline=None)
@given(
  st.integers(0, 60), st.integers(1, 30), st.integers(1, 9), st.integers(0, 3)
)
def test_it_is_a_function_of_its_arguments(
  folder, start, buffer, batch_size, seed
):
  source = stream(folder, buffer=buffer)
  options = {'batch_size': batch_size, 'seed': seed}
  whole = read(source, start + 2, **options)
  late = read(source, 2, start=start, **options)
  np.testing.assert_array_equal(late, whole[start:])


def test_every_sample_comes_once_in_each_epoch(folder):
  source = stream(folder, buffer=5)
  epochs = read(source, 20, batch_size=5).reshape(4, 25)
  assert (np.sort(epochs, axis=1) == np.arange(25)).all()
  assert len(np.unique(epochs, axis=0)) == 4
  other = read(source, 5, batch_size=5, seed=1).ravel()
  assert (other != epochs[0]).any()


def test_pictures_stay_with_their_captions(folder):
  batch = next(make_batches(stream(folder), batch_size=16, seed=3))
  for x, number in zip(batch['x0'], batch['number'], strict=True):
    np.testing.assert_array_equal(x, tiny_shards.x0(int(number)))
  assert batch['x0'].dtype == np.float32


def test_without_an_encoder_there_are_pictures_alone(folder):
  source = webdataset(path=str(folder), size=8)
  batch = next(make_batches(source, batch_size=4, seed=0))
  assert set(batch) == {'x0'}


@pytest.mark.parametrize('count', [2, 4])
def test_hosts_share_out_the_samples(folder, count):
  """No sample comes to two of them, in any epoch, and none is left out."""
  seen = [
    {*read(stream(folder), 40, batch_size=count, process=(p, count)).ravel()}
    for p in range(count)
  ]
  assert sum(map(len, seen)) == len(set.union(*seen)) == 25


def test_hosts_resume_at_the_same_sample(folder):
  source = stream(folder)
  for p in (0, 1):
    whole = read(source, 20, process=(p, 2))
    late = read(source, 5, start=15, process=(p, 2))
    np.testing.assert_array_equal(late, whole[15:])


def test_more_hosts_than_shards_are_refused(folder):
  with pytest.raises(ValueError, match='there are 4 shards, fewer than the 5'):
    read(stream(folder), 1, batch_size=5, process=(4, 5))


def test_the_length_is_that_of_the_option(folder):
  assert isinstance(stream(folder), Stream)
  assert length_of(stream(folder)) is None
  assert length_of(stream(folder, num_samples=25)) == 25


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'buffer': 0}, 'buffer = 0 must be at least 1'),
    ({'num_samples': 0}, 'num_samples = 0 must be at least 1'),
    ({'held_out': 'list'}, "held_out = 'list' needs an index"),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'size': 0}, 'size = 0 must be at least 1'),
    ({'max_broken': 2}, r'max_broken = 2 must lie in \[0, 1\]'),
    ({'image': 'txt'}, "image = 'txt' must be the ending of a picture"),
    ({'caption': 'jpg'}, "caption = 'jpg' must be 'txt' or 'json'"),
    ({'json_key': ''}, "json_key = '' must be a key"),
    ({'resize': 'crop'}, "resize = 'crop' must be one of"),
  ],
)
def test_bad_options_are_refused(folder, options, message):
  with pytest.raises(ValueError, match=message):
    stream(folder, **options)


def test_broken_samples_have_their_places(tmp_path, caplog):
  """A run goes on behind them at the same sample, and each is named once."""
  members = [member for k in range(20) for member in sample(k)]
  members[10:10] = [('bad.png', b'no'), ('bad.txt', b'number 99')]
  members[30:30] = [('worse.png', png(1)), ('worse.json', b'{')]
  members[40:40] = [('alone.png', png(1))]
  write(tmp_path / 'a.tar', members)
  source = stream(tmp_path, num_samples=22, max_broken=0.2)
  whole = read(source, 22, batch_size=4)
  assert {*whole.ravel()} == {*range(20)}
  for start in (1, 3, 8, 14):
    late = read(source, 3, start=start)
    np.testing.assert_array_equal(late, whole[start : start + 3])
  named = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
  assert len({line.partition("'")[2].partition("'")[0] for line in named}) == 3
  one = [line for line in named if 'a.tar/alone' in line]
  assert 'no caption' in one[0]
  few = stream(tmp_path, num_samples=22, max_broken=0.1)
  with pytest.raises(ValueError, match='3 of 22 samples .* max_broken = 0.1'):
    read(few, 22)


BAD = {
  'two captions': [('b.png', png(9)), ('b.txt', b'b'), ('b.json', b'{}')],
  'a name that leads out of the shard': [
    ('../../b.png', png(9)),
    ('../../b.txt', b'number 9'),
  ],
  'its JSON is broken': [('b.png', png(9)), ('b.json', b'{"caption": "a')],
}


@pytest.mark.parametrize('reason', BAD)
def test_samples_that_are_none_are_left_out_and_named(tmp_path, reason, caplog):
  members = [*sample(1), *BAD[reason], *sample(2)]
  write(tmp_path / 'one.tar', members)
  source = stream(tmp_path, num_samples=3, max_broken=0.4)
  assert {*read(source, 4).ravel()} == {1, 2}
  assert f"b' is left out: {reason}" in caplog.text
  assert [path.name for path in tmp_path.iterdir()] == ['one.tar']
  with pytest.raises(ValueError, match=f'1 of 3 samples .*{reason}'):
    read(stream(tmp_path, num_samples=3), 4)


def test_samples_that_are_all_broken_are_an_error(tmp_path):
  write(tmp_path / 'a.tar', [('a.png', b'no'), ('a.txt', b'number 1')])
  with pytest.raises(ValueError, match='in a row cannot be read.*no.* picture'):
    read(stream(tmp_path), 1)


@pytest.mark.parametrize('size', [512 * 9, 512 * 13 + 100, 512 * 8])
def test_a_cut_shard_is_named_and_read_to_where_it_is_cut(
  tmp_path, size, caplog
):
  shards = write_shards(tmp_path, [6, 6])
  os.truncate(shards[0], size)
  with pytest.raises(ValueError, match='1 of 2 shards cannot be read.*is cut'):
    read(stream(tmp_path), 10)
  source = stream(tmp_path, max_broken=0.5)
  whole = read(source, 20)
  assert {*range(6, 12)} < {*whole.ravel()} < {*range(12)}
  for start in (1, 4, 9, 15):
    late = read(source, 2, start=start)
    np.testing.assert_array_equal(late, whole[start : start + 2])
  assert 'a-0.tar' in caplog.text


def test_empty_shards_are_read_over(tmp_path):
  write_shards(tmp_path, [0, 3, 0])
  assert {*read(stream(tmp_path), 6).ravel()} == {0, 1, 2}
  (tmp_path / 'a-1.tar').unlink()
  with pytest.raises(ValueError, match='no shard has a sample'):
    read(stream(tmp_path), 1)
  with pytest.raises(ValueError, match='no shard has a sample'):
    read(stream(tmp_path), 1, start=3)


def test_a_command_is_run_with_consent_alone(tmp_path):
  (shard,) = write_shards(tmp_path, [5])
  command = f'pipe:cat {shard}'
  with pytest.raises(ValueError, match='would run a command; set commands'):
    stream(command)
  whole = read(stream(command, commands=True), 10)
  assert {*whole.ravel()} == {*range(5)}
  np.testing.assert_array_equal(
    read(stream(command, commands=True), 3, start=7), whole[7:]
  )


def test_a_command_that_fails_is_an_error(tmp_path, monkeypatch):
  monkeypatch.setattr(retried, 'TRIES', 2)
  source = stream(f'pipe:cat {tmp_path}/none; exit 3', commands=True)
  with pytest.raises(OSError, match='after 2 tries: .*ended with code 3'):
    read(source, 1)


def at_once(source):
  """A stream that is tried again without a pause."""
  reader = dataclasses.replace(source.reader, wait=0)
  return dataclasses.replace(source, reader=reader)


@pytest.mark.parametrize('output', ['', 'head -c 3000 SHARD; '])
def test_a_command_that_stalls_is_run_again_and_named(
  tmp_path, monkeypatch, caplog, output
):
  """The first two times, before its first byte and in the middle."""
  monkeypatch.setattr(retried, 'STALL', 0.5)
  retried._said.clear()
  (shard,) = write_shards(tmp_path, [5])
  tries = tmp_path / 'tries'
  command = (
    f'echo >> {tries}; if [ $(wc -l < {tries}) -gt 2 ]; then cat {shard}; '
    f'else {output.replace("SHARD", str(shard))} exec sleep 1000; fi'
  )
  source = at_once(stream(f'pipe:{command}', commands=True))
  assert {*read(source, 2, batch_size=5)[0]} == {*range(5)}
  assert len(tries.read_text()) >= 3
  assert 'printed nothing for 0.5 s' in caplog.text
  assert 'is tried again: TimeoutError: the command' in caplog.text


def test_a_command_that_stays_silent_is_an_error(tmp_path, monkeypatch):
  """Also one that has printed all, and ignores that it is asked to end."""
  monkeypatch.setattr(retried, 'STALL', 0.2)
  monkeypatch.setattr(retried, 'TRIES', 2)
  monkeypatch.setattr(command_output, 'PATIENCE', 0.2)
  command = 'pipe:trap "" TERM; exec >&-; sleep 1000'
  source = at_once(stream(command, commands=True))
  start = time.monotonic()
  with pytest.raises(OSError, match='after 2 tries: TimeoutError: the command'):
    read(source, 1)
  assert time.monotonic() - start < 30


def test_a_shard_that_vanishes_is_an_error(tmp_path):
  (shard,) = write_shards(tmp_path, [5])
  source = stream(tmp_path)
  shard.unlink()
  with pytest.raises(ValueError, match='a-0.tar cannot be read: FileNotFound'):
    read(source, 1)


def test_items_are_fetched_ahead_in_order():
  fetched = []

  def items():
    for k in range(4):
      fetched.append(k)
      yield k
    raise KeyError('end')

  found = ahead(items())
  assert next(found) == 0
  assert next(found) == 1
  assert fetched[:2] == [0, 1]
  assert [next(found), next(found)] == [2, 3]
  with pytest.raises(KeyError, match='end'):
    next(found)
  assert [*ahead(iter(range(3)))] == [0, 1, 2]


def test_memory_does_not_grow_with_what_is_read(tmp_path):
  """20 times the buffer takes no more than the buffer."""
  rng, members = np.random.default_rng(0), []
  for k in range(1000):
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(file, 'PNG')  # of 7 kB, as it is noise
    members += [(f'{k}.png', file.getvalue()), (f'{k}.txt', b'number 1')]
  write(tmp_path / 'a.tar', members)
  source = stream(tmp_path, buffer=50)
  tracemalloc.start()
  try:
    batches = make_batches(source, batch_size=50, seed=0)
    peaks = []
    for _ in range(4):
      tracemalloc.reset_peak()
      for _ in range(5):
        next(batches)
      peaks.append(tracemalloc.get_traced_memory()[1])
  finally:
    tracemalloc.stop()
  assert sum(len(data) for _, data in members) > 6.5e6
  assert max(peaks) < 4e6


def test_the_share_of_broken_ones_is_of_those_that_were_read():
  broken = shard_stream.Broken(0.01, None, 3)
  for k in range(10):
    broken.note(f'{k}', 'no')
  with pytest.raises(ValueError, match="11 of 1000 samples .*such as '0' .no"):
    broken.note('10', 'no')
  broken.read = 1100
  broken.note('10', 'no')
