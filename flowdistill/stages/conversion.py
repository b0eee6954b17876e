"""A file of foreign weights as a run: its config, a checkpoint, and a check."""

import dataclasses
import hashlib
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.config.bind import Spec
from flowdistill.config.sections import Origin, Stage
from flowdistill.training.checkpoint import Checkpoints, by_name
from flowdistill.training.files import write_json
from flowdistill.training.state import MAIN, Params, TrainState, init_state
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CHECKPOINTS
from flowdistill.workdir.record import record

EXAMPLES = 2  # that the check asks for
LABEL = 'label.'  # what a network without classes must not be told


@dataclasses.dataclass(frozen=True)
class Conversion:
  """What was converted, as conversion.json says it.

  Attributes:
    source: the file.
    sha256: of it.
    arrays: how many were read.
    averages: whether it had averages too.
    ours_alone: the arrays that it has not, and how many there are.
    largest_error: of the velocity at random points: weights read back from the
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
    averages = ' and their averages' if self.averages else ''
    return (
      f'{self.arrays} arrays{averages} of {self.source} (sha256 '
      f'{self.sha256[:12]}...); the largest error of a check is '
      f'{self.largest_error:.2g}, of velocities up to '
      f'{self.largest_velocity:.2g}; the run is'
    )


def convert(spec: Spec, file: pathlib.Path, to: pathlib.Path) -> Conversion:
  """Writes a run of one stage, at step 0, whose network has the file's weights.

  The folder appears when it is whole.

  Raises:
    ValueError: if the file cannot be read, or is of another network.
  """
  spec = build.resolve_stage(neutral(spec))
  stage = build.bind_stage(spec)
  source = stage.dataset()
  model = build.build_model(stage, source)
  shapes = {name: x.shape for name, x in by_name(model.params).items()}
  found = build.read_foreign(file, spec['network']['name'], shapes)
  with file.open('rb') as opened:
    digest = hashlib.file_digest(opened, 'sha256').hexdigest()
  part = to.with_name(f'{to.name}.part')
  if part.exists():  # of a conversion that was interrupted
    shutil.rmtree(part)
  record(part, spec, {'weights': f'{file} of sha256 {digest}'})
  fresh = build.init_params(stage, source)
  state = first_state(stage, source, fresh, found)
  with Checkpoints(part / CHECKPOINTS, keep=1) as saved:
    saved.save(0, state)
  back = origins.load_weights(Origin(str(part), 'params'), part).params
  error, size = compare(model, complete(fresh, found['params']), back, source)
  made = Conversion(
    str(file),
    digest,
    len(found['params']),
    'ema' in found,
    sorted(shapes.keys() - found['params'].keys()),
    error,
    size,
  )
  write_json(part / 'conversion.json', dataclasses.asdict(made))
  part.rename(to)
  return made


def neutral(spec: Spec) -> dict[str, Any]:
  """A stage with this network and nothing that refers to other runs."""
  return {
    'dataset': spec['dataset'],
    'network': spec['network'],
    'ema': {MAIN: spec['ema'].get(MAIN, {'half_life': {'steps': 1}})},
    'evaluation': spec['evaluation'],
    'objective': 'rectified_flow',
    'train': {'steps': 1, 'batch_size': spec['train']['batch_size']},
  }


def complete(fresh: Params, found: Mapping[str, np.ndarray]) -> Params:
  """The arrays of a file, and of ours alone those that change nothing."""

  def value(name: str, leaf: Any) -> Any:
    other = jnp.zeros_like(leaf) if name.startswith(LABEL) else leaf
    return jnp.asarray(found.get(name, other))

  leaves = [value(name, leaf) for name, leaf in by_name(fresh).items()]
  return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


def first_state(
  stage: Stage, source: Any, fresh: Params, found: Mapping[str, Any]
) -> TrainState:
  """A train state of step 0 with the weights of a file."""
  params = complete(fresh, found['params'])
  trained = build.build_trained(stage, source)
  state = init_state([trained], {'student': params})
  if 'ema' not in found:
    return state
  role = state.roles['student']
  main = complete(fresh, found['ema'])
  role = dataclasses.replace(role, emas={**role.emas, MAIN: main})
  return dataclasses.replace(state, roles={'student': role})


def compare(
  model: Model, exact: Params, back: Params, source: Any
) -> tuple[float, float]:
  """(largest error, largest velocity) at random points; see `Conversion`."""
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: x.astype(jnp.float64), exact)
    wanted = velocity(model, wide, source, np.float64)
  found = velocity(model, back, source, np.float32)
  return float(np.abs(found - wanted).max()), float(np.abs(wanted).max())


def velocity(
  model: Model, params: Params, source: Any, dtype: Any
) -> np.ndarray:
  """u(x_t, t, t) [EXAMPLES, ...] of noise, without a class."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((EXAMPLES, *source.shape)).astype(dtype)
  t = rng.uniform(0.1, 0.9, EXAMPLES).astype(dtype)
  cond: Any = {name: np.ones(EXAMPLES, dtype) for name in model.scalars}
  if source.num_classes:
    cond['label'] = np.full(EXAMPLES, source.num_classes, np.int32)
  return np.asarray(jax.jit(model.apply)(params, x, t, t, cond))
