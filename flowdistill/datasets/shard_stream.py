"""Samples of tar shards as a stream, shuffled in a buffer.

The samples that arrive at a process are taken in blocks of `buffer`, and each
block is shuffled: so the sample at any position is known from the number of
samples before its block. A sample that cannot be read has its place, which the
next readable one takes. So a run goes on at the same sample.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from absl import logging

from flowdistill.datasets.captions import decode_json, decode_text
from flowdistill.datasets.decoders import Decoder, generators
from flowdistill.datasets.pictures import SAID, workers
from flowdistill.datasets.shard_reading import Arrival, Arrivals, ShardReader
from flowdistill.datasets.source import Batch
from flowdistill.datasets.texts import Encoder, spec_of, too_long
from flowdistill.flow.spec import DataSpec

FEW = 1000  # samples, of which a share is not measured before they are read
Item = TypeVar('Item')
Decoded = tuple[np.ndarray, str]


@dataclasses.dataclass(frozen=True)
class ShardStream:
  """A stream of captioned pictures, or latents (see `stream.py`).

  Attributes:
    shards: their paths; process p of P has every P-th from the p-th on.
    decoder: of the pictures, or of latents.
    reader: of shards.
    json_key: of the caption in a JSON member.
    buffer: samples that are shuffled together, at least 1.
    num_samples: the length of an epoch, None if unknown.
    max_broken: largest share of samples, or of shards, that cannot be read.
    encoder: of the captions; None for no conditions of them.
  """

  shards: Sequence[str]
  decoder: Decoder
  reader: ShardReader
  json_key: str
  buffer: int
  num_samples: int | None
  max_broken: float
  encoder: Encoder | None = None

  def encoded_by(self, encoder: Encoder) -> 'ShardStream':
    """The stream whose captions are conditions, as this encoder makes them."""
    return dataclasses.replace(self, encoder=encoder)

  @property
  def spec(self) -> DataSpec:
    """Of an example, with the conditions of its caption."""
    spec = self.decoder.spec
    return spec if self.encoder is None else spec_of(spec, self.encoder)

  @property
  def pictures(self) -> tuple[int, ...] | None:
    """The shape of the images of latents, None of pictures."""
    return self.decoder.pictures

  @property
  def manifest(self) -> Mapping[str, Any]:
    """What latents are of."""
    return self.decoder.manifest

  def batches(
    self, batch_size: int, /, *, seed: int, start: int, process: tuple[int, int]
  ) -> Iterator[Batch]:
    """See `Stream`.

    Raises:
      ValueError: if there are fewer shards than processes, more samples or
        shards are broken than `max_broken` allows, or a shard is not there.
      OSError: if a shard cannot be read, after some tries.
    """
    index, count = process
    shards, rows = self.shards[index::count], batch_size // count
    if not shards:
      raise ValueError(
        f'there are {len(self.shards)} shards, fewer than the {count} '
        'processes that share them out; write more shards, or index them'
      )
    broken = Broken(self.max_broken, self.num_samples, len(shards))
    arrivals = Arrivals(
      shards, self.reader, seed, broken.note, broken.note_shard
    )
    samples = shuffled(arrivals, self.buffer, seed, start * rows)
    examples = readable(samples, self._decode, broken, 2 * rows)
    for number in itertools.count(start):
      keys = [(number, index, row) for row in range(rows)]
      rngs = generators(seed, keys)
      yield self._batch([*itertools.islice(examples, rows)], rngs)

  def _decode(self, arrival: Arrival) -> Decoded:
    """What is decoded of a sample, and its caption.

    Raises:
      ValueError: if one of them cannot be read, or is refused.
    """
    text = arrival.text
    if not arrival.image:
      raise ValueError('it is empty or far too large')
    caption = (
      decode_json(text, self.json_key) if arrival.json else decode_text(text)
    )
    if self.encoder is not None and not self.encoder.cut:
      too_long(self.encoder, [caption], 'captions')
    return self.decoder.decode(arrival.image), caption

  def _batch(
    self, examples: Sequence[Decoded], rngs: Sequence[np.random.Generator]
  ) -> Batch:
    rows = np.stack([each for each, _ in examples])
    draw = self.decoder.draw
    x0 = self.decoder.finish(rows) if draw is None else draw(rows, rngs)
    captions = [caption for _, caption in examples]
    text = {} if self.encoder is None else self.encoder.encode(captions)
    return {'x0': x0, **text}


class Broken:
  """What cannot be read: each is named in the log once, and counted.

  Args:
    share: that is allowed.
    samples: in an epoch, None if unknown.
    shards: of this process.
  """

  def __init__(self, share: float, samples: int | None, shards: int):
    self.share, self.samples, self.shards = share, samples, shards
    self.read, self.lost = 0, dict[str, str]()
    self.cut = dict[str, str]()
    self._lock = threading.Lock()

  def note(self, name: str, reason: str) -> None:
    """Notes a sample; raises ValueError if there are too many."""
    of = max(self.read, FEW) if self.samples is None else self.samples
    self._note(self.lost, name, reason, of, 'samples')

  def note_shard(self, name: str, reason: str) -> None:
    """Notes a shard; raises ValueError if there are too many."""
    self._note(self.cut, name, reason, self.shards, 'shards')

  def _note(
    self, found: dict[str, str], name: str, reason: str, of: int, noun: str
  ) -> None:
    with self._lock:
      if name not in found:
        found[name] = reason
        count = len(found)
        logging.warning('%r is left out: %s (%d so far)', name, reason, count)
    if len(found) > self.share * of:
      some = ', '.join(f'{k!r} ({v})' for k, v in sorted(found.items())[:SAID])
      raise ValueError(
        f'{len(found)} of {of} {noun} cannot be read, more than max_broken = '
        f'{self.share:g} allows, such as {some}'
      )


def shuffled(
  arrivals: Arrivals, buffer: int, seed: int, first: int
) -> Iterator[Arrival]:
  """What arrives, shuffled in blocks, from number `first` on."""
  block, place = divmod(first, buffer)
  blocks = ahead(batched(arrivals.since(block * buffer), buffer))
  for number in itertools.count(block):
    samples = next(blocks)
    sequence = np.random.SeedSequence(seed, spawn_key=(number, 1))
    order = np.random.default_rng(sequence).permutation(len(samples))
    for k in order[place:]:
      yield samples[k]
    place = 0


def batched(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
  """Lists of `size` items."""
  while part := [*itertools.islice(items, size)]:
    yield part


def ahead(items: Iterator[Item]) -> Iterator[Item]:
  """The same items; the next is fetched while one is used.

  Its thread does not keep the process from ending.
  """
  waiting = fetch(items)
  while True:
    try:
      item = waiting.result()
    except StopIteration:
      return
    waiting = fetch(items)
    yield item


def fetch(items: Iterator[Item]) -> concurrent.futures.Future[Item]:
  """The next item, from a thread of its own."""
  found: concurrent.futures.Future[Item] = concurrent.futures.Future()

  def run() -> None:
    try:
      found.set_result(next(items))
    except BaseException as error:  # noqa: BLE001
      found.set_exception(error)  # of whoever waits

  threading.Thread(target=run, daemon=True).start()
  return found


def readable(
  samples: Iterator[Arrival],
  decode_one: Callable[[Arrival], Decoded],
  broken: Broken,
  most: int,
) -> Iterator[Decoded]:
  """Samples, decoded in all threads; the next readable one replaces another.

  Args:
    samples: endless.
    decode_one: decodes one, or raises ValueError.
    broken: gets those that cannot be decoded.
    most: samples that are decoded ahead.
  """
  queue = collections.deque[tuple[str, concurrent.futures.Future[Decoded]]]()

  def fill(count: int) -> None:
    while len(queue) < count:
      sample = next(samples)
      broken.read += 1
      queue.append((sample.name, workers().submit(decode_one, sample)))

  while True:
    for place in itertools.count():
      fill(max(most, place + 1))
      name, waiting = queue[place]
      try:
        found = waiting.result()
        break
      except ValueError as error:
        broken.note(name, str(error))
        if place == FEW:  # of few samples, which come again and again
          raise ValueError(
            f'{FEW:,} samples in a row cannot be read, such as {name!r} '
            f'({error})'
          ) from error
    queue.popleft()
    yield found
