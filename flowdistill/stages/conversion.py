"""Converts a file of foreign weights to a run, and checks the result."""

import dataclasses
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.foreign import digest_of, read_foreign
from flowdistill.build.tables import resolve_stage
from flowdistill.build.weights import weights_in_stage
from flowdistill.config.bind import Spec
from flowdistill.config.files import ONE_STAGE
from flowdistill.config.sections import Reference
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.checkpoint import Checkpoints, by_name
from flowdistill.training.json_files import write_json
from flowdistill.training.roles import Params
from flowdistill.training.state import MAIN, TrainState, init_state
from flowdistill.workdir import weights
from flowdistill.workdir.folders import CHECKPOINTS
from flowdistill.workdir.record import write_record

EXAMPLES = 2  # of the check
LABEL = 'label.'  # label embedding, zero if the file has none


@dataclasses.dataclass(frozen=True)
class Conversion:
  """The record of a conversion, in conversion.json.

  Attributes:
    source: the file.
    sha256: of the file.
    arrays: number of arrays in it.
    averages: whether it has EMA weights too.
    ours_alone: names of the network's arrays that are not in the file.
    largest_error: of the velocity at random points: weights restored from the
      checkpoint in float32, against those of the file in float64.
    largest_velocity: at those points.
  """

  source: str
  sha256: str
  arrays: int
  averages: bool
  ours_alone: list[str]
  largest_error: float
  largest_velocity: float

  def __str__(self) -> str:
    emas = ' and their EMA weights' if self.averages else ''
    return (
      f'{self.arrays} arrays{emas} of {self.source} (sha256 '
      f'{self.sha256[:12]}...); the largest error of a check is '
      f'{self.largest_error:.2g}, of velocities up to '
      f'{self.largest_velocity:.2g}; the run is'
    )


def convert(
  blueprint: Blueprint, file: pathlib.Path, to: pathlib.Path
) -> Conversion:
  """Writes a run of one stage, at step 0, with the weights of a file.

  The stage has the network of `blueprint`; `to` is created when complete.

  Raises:
    ValueError: if the file cannot be read, or is of another network.
  """
  (name,) = blueprint.learns[:1]
  network = blueprint.spec['network']['name']
  spec, data = resolve_stage(neutral(blueprint.spec)), blueprint.data.record
  part = to.with_name(f'{to.name}.part')
  if part.exists():  # from an interrupted conversion
    shutil.rmtree(part)
  shapes = {
    key: x.shape
    for key, x in by_name(blueprint.learners[name].model.params).items()
  }
  foreign = read_foreign(file, network, shapes)
  digest = digest_of(file)
  write_record(part, spec, {'weights': f'{file} of sha256 {digest}'}, data)
  run = Blueprints({ONE_STAGE: spec}, part)[ONE_STAGE]
  fresh = run.init(name)
  with Checkpoints(part / CHECKPOINTS, keep=1) as saved:
    saved.save(0, converted_state(run, fresh, foreign))
  reference = Reference(str(part), 'params')
  back = weights.load(name, weights_in_stage(reference, run)).params
  error, size = compare(run, complete(fresh, foreign['params']), back)
  conversion = Conversion(
    str(file),
    digest,
    len(foreign['params']),
    'ema' in foreign,
    sorted(shapes.keys() - foreign['params'].keys()),
    error,
    size,
  )
  write_json(part / 'conversion.json', dataclasses.asdict(conversion))
  part.rename(to)
  return conversion


def neutral(spec: Spec) -> dict[str, Any]:
  """A stage with the same network and without references to other runs."""
  return {
    'dataset': spec['dataset'],
    'space': spec['space'],
    'network': spec['network'],
    'ema': {MAIN: spec['ema'].get(MAIN, {'half_life': {'steps': 1}})},
    'evaluation': spec['evaluation'],
    'objective': 'rectified_flow',
    'train': {'steps': 1, 'batch_size': spec['train']['batch_size']},
  }


def complete(fresh: Params, arrays: Mapping[str, np.ndarray]) -> Params:
  """`fresh` with the arrays of a file, and a missing label embedding of 0."""

  def value(name: str, leaf: Any) -> Any:
    other = jnp.zeros_like(leaf) if name.startswith(LABEL) else leaf
    return jnp.asarray(arrays.get(name, other))

  leaves = [value(name, leaf) for name, leaf in by_name(fresh).items()]
  return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


def converted_state(
  blueprint: Blueprint, fresh: Params, foreign: Mapping[str, Any]
) -> TrainState:
  """A train state of step 0 with the weights of a file."""
  (name,) = blueprint.learns
  params = complete(fresh, foreign['params'])
  state = init_state(blueprint.learners, {name: params})
  if 'ema' not in foreign:
    return state
  role = state.roles[name]
  main = complete(fresh, foreign['ema'])
  role = dataclasses.replace(role, emas={**role.emas, MAIN: main})
  return dataclasses.replace(state, roles={name: role})


def compare(
  blueprint: Blueprint, exact: Params, back: Params
) -> tuple[float, float]:
  """(largest error, largest velocity) at random points; see `Conversion`."""
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: x.astype(jnp.float64), exact)
    wanted = velocity(blueprint, wide, np.float64)
  restored = velocity(blueprint, back, np.float32)
  return float(np.abs(restored - wanted).max()), float(np.abs(wanted).max())


def velocity(blueprint: Blueprint, params: Params, dtype: Any) -> np.ndarray:
  """u(x_t, t, t) [EXAMPLES, ...] of noise, unconditional."""
  (name,) = blueprint.learns
  model, sees = blueprint.learners[name].model, blueprint.sees
  rng = np.random.default_rng(0)
  x = rng.standard_normal((EXAMPLES, *sees.shape)).astype(dtype)
  t = rng.uniform(0.1, 0.9, EXAMPLES).astype(dtype)
  cond: Any = {name: np.ones(EXAMPLES, dtype) for name in model.scalars}
  cond |= {name: each.full(EXAMPLES) for name, each in sees.cond.items()}
  return np.asarray(jax.jit(model.apply)(params, x, t, t, cond))
