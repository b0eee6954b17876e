"""Pairs of data and noise, shard by shard, each host its own."""

import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.build import objects as build
from flowdistill.config import files as config
from flowdistill.config.bind import ConfigError, Spec, located
from flowdistill.config.pair_stage import PairStage
from flowdistill.datasets.pairs import (
  FORMAT,
  MANIFEST,
  first_noise,
  read_manifest,
  write_manifest,
)
from flowdistill.datasets.shards import is_whole, read_array, write_shard
from flowdistill.training import sharding
from flowdistill.training.files import jsonable
from flowdistill.training.loop import Stop
from flowdistill.training.progress import Progress, progress
from flowdistill.training.sharding import Layout
from flowdistill.training.watchdog import AGAIN, Watchdog
from flowdistill.workdir import origins
from flowdistill.workdir.origins import Trainee
from flowdistill.workdir.results import say

Arrays = dict[str, np.ndarray]
Make = Callable[[int, int], Arrays]
"""make(first, n): the arrays of the pairs `first` to `first` + n − 1."""
POLL = 0.2  # seconds between two looks at what the other hosts have written


def make_pairs(
  name: str,
  spec: Spec,
  out: pathlib.Path,
  workdir: pathlib.Path,
  dog: Watchdog,
) -> pathlib.Path:
  """Writes the shards that are not there, and then says it is finished.

  Raises:
    ConfigError: if the folder has other pairs.
  """
  stage = build.bind_pairs(spec)
  source, layout = stage.dataset(), local_layout(stage.batch_size)
  teacher = None
  if stage.teacher is not None:
    teacher = origins.load_weights(stage.teacher, workdir, layout)
  made = describe(spec, stage, source, teacher)
  if begin(out, made) and not missing(stage, out):
    say(f'{name}: finished before ({out})')
    return out
  with dog.busy('making pairs'):
    write_shards(name, stage, out, maker(stage, source, teacher, layout))
    while missing(stage, out):
      time.sleep(POLL)
    if jax.process_index() == 0:
      cost = finish(stage, out, made)
      say(f'{name}: {stage.count} pairs{cost} are in {out}')
    while not read_manifest(out)['finished']:
      time.sleep(POLL)
  return out


def local_layout(batch_size: int) -> Layout:
  """The devices of this host, which share the rows of a batch.

  Raises:
    ConfigError: if the batch does not divide over them.
  """
  layout = Layout(sharding.make_mesh(devices=jax.local_devices()))
  with located('batch_size'):
    sharding.rows_per_device(layout.mesh, batch_size)
  return layout


def describe(
  spec: Spec, stage: PairStage, source: Any, teacher: Trainee | None
) -> dict[str, Any]:
  """What the pairs are, such that others are told apart."""
  drawn = stage.direction != 'from_data'
  keys = ('count', 'shard_size', 'seed', 'direction', 'dataset')
  solver = {key: spec[key] for key in ('sampler', 'nfe', 'options')}
  flow: dict[str, Any] = {}
  if stage.teacher is not None and teacher is not None:
    weights = origins.describe(stage.teacher, teacher)
    flow = {'teacher': f'{weights}, {stage.teacher.weights}', **solver}
  return {
    'shape': list(source.shape),
    'num_classes': source.num_classes,
    'noise': 'drawn' if drawn else 'stored',
    'first_noise': first_noise(stage.seed, source.shape) if drawn else None,
    **{key: spec[key] for key in keys},
    **flow,
  }


def begin(out: pathlib.Path, made: Mapping[str, Any]) -> bool:
  """Whether the pairs of a folder are finished; else it is ready for them.

  Raises:
    ConfigError: if there are other pairs in it, or other files.
  """
  out.mkdir(parents=True, exist_ok=True)
  if not (out / MANIFEST).is_file():
    if jax.process_index() == 0:
      write_manifest(out, {'finished': False, **made})
    return False
  old = read_manifest(out)
  wanted = {'format': FORMAT, 'finished': old['finished'], **made}
  known = {key: old.get(key) for key in wanted}
  if lines := config.differences(known, jsonable(wanted)):
    raise ConfigError(
      f'{out} holds other pairs: {"; ".join(lines)}. Take another folder, or '
      'remove it'
    )
  return old['finished']


def missing(stage: PairStage, out: pathlib.Path) -> list[int]:
  """The shards that are not whole."""
  return [k for k in range(len(stage.shards)) if not is_whole(out, k)]


def maker(
  stage: PairStage, source: Any, teacher: Trainee | None, layout: Layout
) -> Make:
  """make(first, n): the arrays of the pairs `first` to `first` + n − 1."""
  if teacher is None:
    return lambda first, n: examples(source, np.arange(first, first + n))
  draw = build.build_generator(
    teacher.model,
    teacher.params,
    source,
    stage.batch_size,
    layout,
  )
  how = {'sampler': stage.sampler, 'nfe': stage.nfe, **stage.options}

  def from_noise(first: int, n: int) -> Arrays:
    cond = labels(source, np.arange(first, first + n))
    x0, nfe = draw(n, cond=cond, seed=stage.seed, first=first, **how)
    return {'x0': x0, **cond, 'nfe': nfe}

  def from_data(first: int, n: int) -> Arrays:
    rows = examples(source, np.arange(first, first + n))
    cond = {key: rows[key] for key in rows if key == 'label'}
    x1, nfe = draw.encode(rows['x0'], cond=cond, **how)
    return {**rows, 'x1': x1, 'nfe': nfe}

  return from_noise if stage.direction == 'from_noise' else from_data


def labels(source: Any, index: np.ndarray) -> Arrays:
  """The class of each pair: all of them in turn."""
  if not source.num_classes:
    return {}
  return {'label': (index % source.num_classes).astype(np.int32)}


def examples(source: Any, index: np.ndarray) -> Arrays:
  """Images of the data set, which begins again after its last."""
  rows = source[index % len(source)]
  return {key: rows[key] for key in ('x0', 'label') if key in rows}


def write_shards(
  name: str, stage: PairStage, out: pathlib.Path, make: Make
) -> None:
  """Writes those that are missing and fall to this host."""
  process, count = jax.process_index(), jax.process_count()
  todo = [k for k in missing(stage, out) if k % count == process]
  batches = sum(-(-stage.shards[k] // stage.batch_size) for k in todo)
  bar = progress(batches, 0, name, batch_size=stage.batch_size)
  with Stop() as stop, bar:
    for k in todo:
      first, size = k * stage.shard_size, stage.shards[k]
      parts = make_parts(make, first, size, stage.batch_size)
      write_shard(out, k, size, counted(parts, bar, stop, name))


def make_parts(
  make: Make, first: int, size: int, batch_size: int
) -> Iterator[Arrays]:
  """The pairs `first` to `first` + size − 1, a batch at a time."""
  for start in range(0, size, batch_size):
    yield make(first + start, min(batch_size, size - start))


def counted(
  parts: Iterator[Arrays], bar: Progress, stop: Stop, name: str
) -> Iterator[Arrays]:
  """Shows how far it is; where the process is to stop, it stops."""
  for part in parts:
    bar.update(bar.step + 1, loss=None)
    yield part
    if stop.asked():
      say(f'{name}: stopped; run it again, and what is whole stays')
      sys.exit(AGAIN)


def finish(stage: PairStage, out: pathlib.Path, made: Mapping[str, Any]) -> str:
  """Says that the pairs are there, and what each has cost."""
  nfe = None
  if stage.teacher is not None:
    parts = [read_array(out, k, 'nfe') for k in range(len(stage.shards))]
    nfe = float(np.mean(np.concatenate(parts)))
  write_manifest(out, {'finished': True, **made, 'mean_nfe': nfe})
  return '' if nfe is None else f', {nfe:.1f} NFE each,'
