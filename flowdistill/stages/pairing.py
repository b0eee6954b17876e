"""Makes pairs of data and noise in shards, which the hosts divide."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.sampling import Generator, Guide
from flowdistill.build.sampling_plan import has_own_grid
from flowdistill.config.bind import located
from flowdistill.config.stages import TEACHER
from flowdistill.datasets.pairs import FORMAT, first_noise, read_manifest
from flowdistill.datasets.shards import read_array, sizes_of
from flowdistill.flow.spec import LABEL
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.shards import (
  Arrays,
  Make,
  Store,
  begin_stage,
  fill,
)
from flowdistill.stages.space import about_space
from flowdistill.training.mesh import make_mesh, rows_per_device
from flowdistill.training.sharding import Layout
from flowdistill.training.watchdog import Watchdog
from flowdistill.workdir import weights
from flowdistill.workdir.folders import PAIRS
from flowdistill.workdir.results import say
from flowdistill.workdir.weights import Trained

OF_SPACE = ('space', 'weights_sha256', 'scale', 'shift')


def make_stage_pairs(
  blueprints: Blueprints, name: str, dog: Watchdog, extras: Any = None
) -> pathlib.Path:
  """Makes the pairs of a stage in W/<stage>/pairs, except finished shards."""
  del extras
  blueprint = blueprints[name]
  begin_stage(blueprint)
  return make_pairs(blueprint, blueprint.folder / PAIRS, dog)


def make_pairs(
  blueprint: Blueprint, out: pathlib.Path, dog: Watchdog
) -> pathlib.Path:
  """Writes the missing shards, and marks the store finished."""
  stage = blueprint.stage
  layout = local_layout(stage.batch_size)
  networks = {
    role: weights.load(role, blueprint.weights(role), layout)
    for role in stage.frozen
  }
  manifest = manifest_of(blueprint, networks)
  sizes = sizes_of(stage.count, stage.shard_size)
  store = Store(
    name=blueprint.name,
    what='pairs',
    job='pairs',
    out=out,
    sizes=sizes,
    batch_size=stage.batch_size,
    make=maker(blueprint, networks, layout),
    form=FORMAT,
    manifest=manifest,
    read=lambda: known(out, manifest),
    end=lambda: cost(out, len(sizes), solved=bool(networks)),
  )
  return fill(store, dog)


def known(out: pathlib.Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
  """The manifest in a folder; what it is too old to say is as in `manifest`."""
  old = read_manifest(out)
  if not old['spec']['classes']:  # recorded before classes had names
    classes = manifest['spec']['classes']
    old['spec'] = {**old['spec'], 'classes': classes}
  if 'space' not in old:  # recorded before spaces were
    old |= {key: manifest[key] for key in OF_SPACE if key in manifest}
  return old


def cost(out: pathlib.Path, shards: int, *, solved: bool) -> dict[str, Any]:
  """The mean NFE of the pairs that a flow connects."""
  if not solved:
    return {'mean_nfe': None}
  parts = [read_array(out, k, 'nfe') for k in range(shards)]
  nfe = float(np.mean(np.concatenate(parts)))
  say(f'{nfe:.1f} NFE for each pair')
  return {'mean_nfe': nfe}


def local_layout(batch_size: int) -> Layout:
  """The devices of this host, over which the rows of a batch are sharded."""
  layout = Layout(make_mesh(devices=jax.local_devices()))
  with located('batch_size'):
    rows_per_device(layout.mesh, batch_size)
  return layout


def manifest_of(
  blueprint: Blueprint, networks: Mapping[str, Trained]
) -> dict[str, Any]:
  """All that determines the pairs, to distinguish them from others.

  Args:
    blueprint: of the stage.
    networks: the teacher and what guides it; none for pairs at random.
  """
  stage, spec, sees = blueprint.stage, blueprint.spec, blueprint.sees
  drawn = stage.direction != 'from_data'
  keys = ('count', 'shard_size', 'seed', 'direction', 'dataset')
  way = {key: spec[key] for key in ('sampler', 'nfe')}
  manifest = {
    'spec': sees.to_json(),
    'noise': 'drawn' if drawn else 'stored',
    'first_noise': first_noise(stage.seed, sees.shape) if drawn else None,
    **{key: spec[key] for key in keys},
  }
  if stage.direction != 'from_noise':
    manifest |= about_space(blueprint)
  if not networks:
    return manifest
  origins = {
    role: f'{network.origin}, {stage.frozen[role].weights}'
    for role, network in networks.items()
  }
  teacher = origins.pop(TEACHER)
  return {
    **manifest,
    'teacher': teacher,
    **({'guides': origins} if origins else {}),
    **way,
    'options': solver_options(blueprint),
  }


def solver_options(blueprint: Blueprint) -> dict[str, Any]:
  """The options of a stage, and its teacher's grid if that is not uniform.

  Not if the sampler has a grid of its own.
  """
  grid = blueprint.grid(TEACHER)
  kept = grid == 'uniform' or has_own_grid(blueprint.stage.sampler)
  own = {} if kept else {'grid': grid}
  return {**own, **blueprint.spec['options']}


def maker(
  blueprint: Blueprint, networks: Mapping[str, Trained], layout: Layout
) -> Make:
  """make(first, n): the arrays of the pairs `first` to `first` + n − 1."""
  stage, sees = blueprint.stage, blueprint.sees
  if not networks:
    return lambda first, n: examples(blueprint, numbers(first, n))
  draw = solver(blueprint, networks, layout)
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


def solver(
  blueprint: Blueprint, networks: Mapping[str, Trained], layout: Layout
) -> Generator:
  """The generator of the teacher, which the other networks may guide."""

  def guide(role: str) -> Guide:
    model, params = networks[role].model, networks[role].params
    return Guide(model.apply, params, model.scalars, blueprint.answers(role))

  teacher = networks[TEACHER]
  return Generator(
    apply=teacher.model.apply,
    params=teacher.params,
    spec=blueprint.sees,
    batch_size=blueprint.stage.batch_size,
    scalars=teacher.model.scalars,
    layout=layout,
    guides={role: guide(role) for role in networks if role != TEACHER},
    answers=blueprint.answers(TEACHER),
  )


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
