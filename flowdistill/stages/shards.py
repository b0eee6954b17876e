"""Writes the examples of a stage in shards, which the hosts divide.

A shard is complete or absent, and a function of what its manifest says: after a
kill, or on several hosts, the store ends in the same bytes.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.config.stage_specs import differences
from flowdistill.datasets.shards import (
  MANIFEST,
  is_whole,
  write_manifest,
  write_shard,
)
from flowdistill.training.json_files import jsonable
from flowdistill.training.loop import Stop
from flowdistill.training.progress import Progress, progress
from flowdistill.training.watchdog import AGAIN, Watchdog
from flowdistill.workdir.lock import locked
from flowdistill.workdir.record import check_data, check_unchanged, keep_record
from flowdistill.workdir.results import say

Arrays = dict[str, np.ndarray]
Make = Callable[[int, int], Arrays]
"""make(first, n): the arrays of the examples `first` to `first` + n − 1."""
POLL = 0.2  # seconds between two looks for the shards of other hosts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
  """Examples that a stage writes in shards.

  Attributes:
    name: of the stage.
    what: the examples are, such as 'pairs'.
    job: that writes them, for others that come upon its lock.
    out: the folder.
    sizes: of the shards, all but the last one equal.
    batch_size: examples that are made at once.
    make: makes them.
    form: the format of the manifest.
    manifest: all that determines them, to distinguish them from others.
    also: what the manifest says besides, and is not compared.
    ragged: ragged(first, n): name -> rows of arrays that have more or fewer
      than one for an example; they are known before they are made.
    read: reads the manifest of `out`; keys that are newer have defaults there.
    end: what the manifest says besides when all shards are complete.
  """

  name: str
  what: str
  job: str
  out: pathlib.Path
  sizes: Sequence[int]
  batch_size: int
  make: Make
  form: str
  manifest: Mapping[str, Any]
  also: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  ragged: Callable[[int, int], Mapping[str, int]] = lambda first, n: {}
  read: Callable[[], Mapping[str, Any]]
  end: Callable[[], Mapping[str, Any]]

  def write(self, finished: bool, more: Mapping[str, Any]) -> None:
    """Writes the manifest."""
    head = {'format': self.form, 'finished': finished}
    made = {**head, **self.manifest, **self.also, **more}
    write_manifest(self.out, jsonable(made))


def begin_stage(blueprint: Blueprint) -> None:
  """Records the config of a stage that writes shards in its folder.

  Raises:
    ConfigError: if the folder is of another config, or of other data.
  """
  folder, data = blueprint.folder, blueprint.data.actual
  check_unchanged(blueprint.spec, folder)
  check_data(folder, data)
  if jax.process_index() == 0:
    keep_record(folder, blueprint.spec, data)


def fill(store: Store, dog: Watchdog) -> pathlib.Path:
  """Writes the missing shards, marks the store finished, returns its folder.

  Raises:
    ConfigError: if the folder has other examples, or another job writes to it.
  """
  with locked(store.out, store.job), dog.busy(f'making {store.what}'):
    if begin(store) and not missing(store):
      say(f'{store.name}: finished before ({store.out})')
      return store.out
    write_shards(store)
    while missing(store):
      time.sleep(POLL)
    if jax.process_index() == 0:
      store.write(True, store.end())
      say(f'{store.name}: {sum(store.sizes)} {store.what} are in {store.out}')
    while not store.read()['finished']:
      time.sleep(POLL)
  return store.out


def begin(store: Store) -> bool:
  """Whether a store is finished; else prepares its folder.

  Raises:
    ConfigError: if the folder has other examples.
  """
  store.out.mkdir(parents=True, exist_ok=True)
  if not (store.out / MANIFEST).is_file():
    if jax.process_index() == 0:
      store.write(False, {})
    return False
  old, wanted = store.read(), jsonable(store.manifest)
  known = {key: jsonable(old.get(key)) for key in wanted}
  if lines := differences(known, wanted):
    text = '; '.join(lines).replace('config.', '')
    raise ConfigError(
      f'{store.out} holds other {store.what}: {text}. Take another folder, or '
      'remove it'
    )
  return old['finished']


def missing(store: Store) -> list[int]:
  """The numbers of the incomplete shards."""
  return [k for k in range(len(store.sizes)) if not is_whole(store.out, k)]


def write_shards(store: Store) -> None:
  """Writes the missing shards of this host."""
  process, count = jax.process_index(), jax.process_count()
  todo = [k for k in missing(store) if k % count == process]
  size = store.batch_size
  batches = sum(-(-store.sizes[k] // size) for k in todo)
  bar = progress(batches, 0, store.name, batch_size=size)
  with Stop() as stop, bar:
    for k in todo:
      first = k * store.sizes[0]
      end = first + store.sizes[k]
      parts = (
        store.make(start, min(size, end - start))
        for start in range(first, end, size)
      )
      rows = store.ragged(first, end - first)
      made = counted(parts, bar, stop, store)
      write_shard(store.out, k, end - first, made, rows)


def counted(
  parts: Iterator[Arrays], bar: Progress, stop: Stop, store: Store
) -> Iterator[Arrays]:
  """Shows the progress; exits if the process is asked to stop."""
  for part in parts:
    bar.update(bar.step + 1, loss=None)
    yield part
    if stop.asked():
      say(f'{store.name}: stopped; run it again to make the remaining shards')
      sys.exit(AGAIN)
