"""Makes pairs of data and noise in shards, which the hosts divide."""

import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.sampling import Generator
from flowdistill.config.bind import ConfigError, located
from flowdistill.config.files import differences
from flowdistill.config.stages import TEACHER, PairStage
from flowdistill.datasets.pairs import (
  FORMAT,
  MANIFEST,
  first_noise,
  read_manifest,
  write_manifest,
)
from flowdistill.datasets.shards import is_whole, read_array, write_shard
from flowdistill.flow.spec import LABEL
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.space import about_space
from flowdistill.training import sharding
from flowdistill.training.json_files import jsonable
from flowdistill.training.loop import Stop
from flowdistill.training.progress import Progress, progress
from flowdistill.training.sharding import Layout
from flowdistill.training.watchdog import AGAIN, Watchdog
from flowdistill.workdir import weights
from flowdistill.workdir.folders import PAIRS
from flowdistill.workdir.lock import locked
from flowdistill.workdir.record import (
  check_data,
  check_unchanged,
  keep_record,
)
from flowdistill.workdir.results import say
from flowdistill.workdir.weights import Trained

Arrays = dict[str, np.ndarray]
Make = Callable[[int, int], Arrays]
"""make(first, n): the arrays of the pairs `first` to `first` + n − 1."""
OF_SPACE = ('space', 'weights_sha256', 'scale', 'shift')
POLL = 0.2  # seconds between two looks for the shards of other hosts


def make_stage_pairs(
  blueprints: Blueprints, name: str, dog: Watchdog, extras: Any = None
) -> pathlib.Path:
  """Makes the pairs of a stage in W/<stage>/pairs, except finished shards."""
  del extras
  blueprint = blueprints[name]
  folder = blueprint.folder
  check_unchanged(blueprint.spec, folder)
  check_data(folder, blueprint.data.actual)
  if jax.process_index() == 0:
    keep_record(folder, blueprint.spec, blueprint.data.actual)
  return make_pairs(blueprint, folder / PAIRS, dog)


def make_pairs(
  blueprint: Blueprint, out: pathlib.Path, dog: Watchdog
) -> pathlib.Path:
  """Writes the missing shards, and marks the store finished."""
  name, stage = blueprint.name, blueprint.stage
  layout = local_layout(stage.batch_size)
  teacher = None
  if stage.teacher is not None:
    teacher = weights.load(TEACHER, blueprint.weights(TEACHER), layout)
  manifest = manifest_of(blueprint, teacher)
  with locked(out, 'pairs'), dog.busy('making pairs'):
    if begin(out, manifest) and not missing(stage, out):
      say(f'{name}: finished before ({out})')
      return out
    write_shards(name, stage, out, maker(blueprint, teacher, layout))
    while missing(stage, out):
      time.sleep(POLL)
    if jax.process_index() == 0:
      cost = finish(stage, out, manifest)
      say(f'{name}: {stage.count} pairs{cost} are in {out}')
    while not read_manifest(out)['finished']:
      time.sleep(POLL)
  return out


def local_layout(batch_size: int) -> Layout:
  """The devices of this host, over which the rows of a batch are sharded."""
  layout = Layout(sharding.make_mesh(devices=jax.local_devices()))
  with located('batch_size'):
    sharding.rows_per_device(layout.mesh, batch_size)
  return layout


def manifest_of(
  blueprint: Blueprint, teacher: Trained | None
) -> dict[str, Any]:
  """All that determines the pairs, to distinguish them from others."""
  stage, spec, sees = blueprint.stage, blueprint.spec, blueprint.sees
  drawn = stage.direction != 'from_data'
  keys = ('count', 'shard_size', 'seed', 'direction', 'dataset')
  solver = {key: spec[key] for key in ('sampler', 'nfe')}
  manifest = {
    'spec': sees.to_json(),
    'noise': 'drawn' if drawn else 'stored',
    'first_noise': first_noise(stage.seed, sees.shape) if drawn else None,
    **{key: spec[key] for key in keys},
  }
  if stage.direction != 'from_noise':
    manifest |= about_space(blueprint)
  if teacher is None:
    return manifest
  origin = f'{teacher.origin}, {stage.teacher.weights}'
  return {
    **manifest,
    'teacher': origin,
    **solver,
    'options': solver_options(blueprint),
  }


def solver_options(blueprint: Blueprint) -> dict[str, Any]:
  """The options of a stage, and its teacher's grid if that is not uniform."""
  grid = blueprint.grid(TEACHER)
  own = {} if grid == 'uniform' else {'grid': grid}
  return {**own, **blueprint.spec['options']}


def begin(out: pathlib.Path, manifest: Mapping[str, Any]) -> bool:
  """Whether the pairs in a folder are finished; else prepares the folder.

  Raises:
    ConfigError: if the folder has other pairs.
  """
  out.mkdir(parents=True, exist_ok=True)
  if not (out / MANIFEST).is_file():
    if jax.process_index() == 0:
      write_manifest(out, {'finished': False, **manifest})
    return False
  old = read_manifest(out)
  wanted = {'format': FORMAT, 'finished': old['finished'], **manifest}
  if not old['spec']['classes']:  # recorded before classes had names
    wanted['spec'] = {**wanted['spec'], 'classes': ()}
  known = {key: old.get(key) for key in wanted}
  if 'space' not in old:  # recorded before spaces were
    known |= {key: wanted[key] for key in OF_SPACE if key in wanted}
  if lines := differences(known, jsonable(wanted)):
    raise ConfigError(
      f'{out} holds other pairs: {"; ".join(lines)}. Take another folder, or '
      'remove it'
    )
  return old['finished']


class Sharded(Protocol):
  """Examples in shards: how many each has, and how many are made at once."""

  @property
  def shards(self) -> list[int]: ...
  @property
  def shard_size(self) -> int: ...
  @property
  def batch_size(self) -> int: ...


def missing(stage: Sharded, out: pathlib.Path) -> list[int]:
  """The numbers of the incomplete shards."""
  return [k for k in range(len(stage.shards)) if not is_whole(out, k)]


def maker(
  blueprint: Blueprint, teacher: Trained | None, layout: Layout
) -> Make:
  """make(first, n): the arrays of the pairs `first` to `first` + n − 1."""
  stage, sees = blueprint.stage, blueprint.sees
  if teacher is None:
    return lambda first, n: examples(blueprint, numbers(first, n))
  draw = Generator(
    apply=teacher.model.apply,
    params=teacher.params,
    spec=sees,
    batch_size=stage.batch_size,
    scalars=teacher.model.scalars,
    layout=layout,
  )
  how = {
    'sampler': stage.sampler,
    'nfe': stage.nfe,
    **solver_options(blueprint),
  }

  def from_noise(first: int, n: int) -> Arrays:
    cond = conditions(blueprint, numbers(first, n))
    x0, nfe = draw(n, cond=cond, seed=stage.seed, first=first, **how)
    return {'x0': x0, **cond, 'nfe': nfe}

  def from_data(first: int, n: int) -> Arrays:
    rows = examples(blueprint, numbers(first, n))
    cond = {name: rows[name] for name in sees.cond}
    x1, nfe = draw.encode(rows['x0'], cond=cond, **how)
    return {**rows, 'x1': x1, 'nfe': nfe}

  return from_noise if stage.direction == 'from_noise' else from_data


def numbers(first: int, n: int) -> np.ndarray:
  """first, ..., first + n − 1."""
  return np.arange(first, first + n)


def conditions(blueprint: Blueprint, index: np.ndarray) -> Arrays:
  """The conditions of each pair: all classes in turn, else those of the data.

  After the last example of the data set the first one follows.
  """
  if set(blueprint.sees.cond) <= {LABEL}:
    return blueprint.sees.each_class(index)
  return blueprint.data.conditions(index % len(blueprint.data))


def examples(blueprint: Blueprint, index: np.ndarray) -> Arrays:
  """Encoded examples of the data set, modulo its size."""
  rows = blueprint.data[index % len(blueprint.data)]
  x0 = np.asarray(blueprint.encoded(rows['x0']))
  return {'x0': x0, **{name: rows[name] for name in blueprint.sees.cond}}


def write_shards(
  name: str, stage: Sharded, out: pathlib.Path, make: Make
) -> None:
  """Writes the missing shards of this host."""
  process, count = jax.process_index(), jax.process_count()
  todo = [k for k in missing(stage, out) if k % count == process]
  batches = sum(-(-stage.shards[k] // stage.batch_size) for k in todo)
  bar = progress(batches, 0, name, batch_size=stage.batch_size)
  with Stop() as stop, bar:
    for k in todo:
      first, end = k * stage.shard_size, k * stage.shard_size + stage.shards[k]
      parts = (
        make(start, min(stage.batch_size, end - start))
        for start in range(first, end, stage.batch_size)
      )
      write_shard(out, k, end - first, counted(parts, bar, stop, name))


def counted(
  parts: Iterator[Arrays], bar: Progress, stop: Stop, name: str
) -> Iterator[Arrays]:
  """Shows the progress; exits if the process is asked to stop."""
  for part in parts:
    bar.update(bar.step + 1, loss=None)
    yield part
    if stop.asked():
      say(f'{name}: stopped; run it again to make the remaining shards')
      sys.exit(AGAIN)


def finish(
  stage: PairStage, out: pathlib.Path, manifest: Mapping[str, Any]
) -> str:
  """Marks the store as finished; returns ', N NFE each,' for a message."""
  nfe = None
  if stage.teacher is not None:
    parts = [read_array(out, k, 'nfe') for k in range(len(stage.shards))]
    nfe = float(np.mean(np.concatenate(parts)))
  write_manifest(out, {'finished': True, **manifest, 'mean_nfe': nfe})
  return '' if nfe is None else f', {nfe:.1f} NFE each,'
