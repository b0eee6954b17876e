"""Converts foreign weights to a run, and checks the result."""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.data import DataRecord
from flowdistill.build.foreign import (
  Foreign,
  converter,
  read_foreign,
  weights_digest,
)
from flowdistill.build.models import Model
from flowdistill.build.snapshot_series import open_series
from flowdistill.build.tables import resolve_stage
from flowdistill.build.weights import weights_in_stage
from flowdistill.config.bind import Spec
from flowdistill.config.sections import STUDENT, Reference
from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.json_files import write_json
from flowdistill.training.named_arrays import by_name
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
    source: the file, or the snapshots.
    sha256: of the file, or of the names and the digests of the snapshots.
    arrays: number of arrays in it.
    averages: whether it has EMA weights too.
    prefixes: 'params' and 'ema' -> what stood before their names in the file.
    ours_alone: names of the network's arrays that are not in the file.
    largest_error: of the velocity at random points: weights restored from the
      checkpoint in float32, against those of the file in float64.
    largest_velocity: at those points.
    residual: of a reconstructed EMA, the distance of its profile to the wanted
      one, as a share of its norm; None for a file.
  """

  source: str
  sha256: str
  arrays: int
  averages: bool
  prefixes: Mapping[str, list[str]]
  ours_alone: list[str]
  largest_error: float
  largest_velocity: float
  residual: float | None = None

  def __str__(self) -> str:
    emas = f' and their EMA weights{self._below("ema")}'
    return (
      f'{self.arrays} arrays{self._below("params")}'
      f'{emas if self.averages else ""} of {self.source} (sha256 '
      f'{self.sha256[:12]}...); the largest error of a check is '
      f'{self.largest_error:.2g}, of velocities up to '
      f'{self.largest_velocity:.2g}; the run is'
    )

  def _below(self, part: str) -> str:
    """' below model.module.', '' without a prefix."""
    below = ' and '.join(prefix for prefix in self.prefixes[part] if prefix)
    return f' below {below}' if below else ''


@dataclasses.dataclass(frozen=True)
class Source:
  """Where weights come from.

  Attributes:
    name: of the file, or of the snapshots.
    digest: () -> their SHA-256.
    read: (network, shapes of ours) -> the weights.
    residual: see `Conversion`.
  """

  name: str
  digest: Callable[[], str]
  read: Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], Foreign]
  residual: float | None = None


def open_source(
  path: pathlib.Path, ema: float | None = None, kimg: int | None = None
) -> Source:
  """A file of weights, or an EMA to reconstruct from a folder of snapshots.

  Args:
    path: of the file or the folder.
    ema: its relative width, for a folder.
    kimg: its time in thousands of images, for a folder; None for the last.

  Raises:
    ValueError: if they do not fit, or as `open_series`.
  """
  if ema is None:
    if path.is_dir():
      raise ValueError(
        f'{path} is a folder; name the file in it, or, of a folder of '
        'snapshots of EDM2, the length of the EMA too, such as --ema=0.07'
      )
    digest = functools.partial(weights_digest, path)
    return Source(str(path), digest, functools.partial(read_foreign, path))
  if not path.is_dir():
    what = 'a file, whose weights are one EMA' if path.exists() else 'missing'
    raise ValueError(
      f'--ema={ema} needs a folder of snapshots of EDM2; {path} is {what}'
    )
  series = open_series(path, ema, kimg)
  return Source(str(series), series.digest, series.read, series.fit.residual)


def convert(
  spec: Spec, data: DataRecord, source: Source, to: pathlib.Path
) -> Conversion:
  """Writes a run of one stage, at step 0, with foreign weights.

  Args:
    spec: resolved config of a stage, whose network it has.
    data: of the examples; they are not opened.
    source: of the weights.
    to: the folder of the run, which is created when complete.

  Raises:
    ValueError: if the file cannot be read, or is of another network.
  """
  part = to.with_name(f'{to.name}.part')
  if part.exists():  # from an interrupted conversion
    shutil.rmtree(part)
  try:
    conversion = _convert(spec, data, source, part)
    part.rename(to)
  except ValueError:
    shutil.rmtree(part, ignore_errors=True)
    raise
  return conversion


def _convert(
  spec: Spec, data: DataRecord, source: Source, part: pathlib.Path
) -> Conversion:
  """`convert`, to a folder that does not exist."""
  spec, digest = resolve_stage(neutral(spec)), source.digest()
  origin = f'{source.name} of sha256 {digest}'
  write_record(part, spec, {'weights': origin}, data)
  run = Blueprints({ONE_STAGE: spec}, part)[ONE_STAGE]
  (name,) = run.learns
  shapes = {
    key: x.shape for key, x in by_name(run.learners[name].model.params).items()
  }
  foreign = source.read(spec['network'], shapes)
  fresh = run.init(name)
  with Checkpoints(part / CHECKPOINTS, keep=1) as saved:
    saved.save(0, converted_state(run, fresh, foreign))
  reference = Reference(str(part), 'params')
  back = weights.load(name, weights_in_stage(reference, run)).params
  model = run.learners[name].model
  error, size = compare(run, complete(model, fresh, foreign.params), back)
  conversion = Conversion(
    source.name,
    digest,
    len(foreign.params),
    foreign.ema is not None,
    foreign.prefixes,
    sorted(shapes.keys() - foreign.params.keys()),
    error,
    size,
    source.residual,
  )
  write_json(part / 'conversion.json', dataclasses.asdict(conversion))
  return conversion


def neutral(spec: Spec) -> dict[str, Any]:
  """A stage with the same network and without references to other runs."""
  return {
    'dataset': spec['dataset'],
    'space': spec['space'],
    'network': spec['network'],
    'ema': {MAIN: spec['ema'].get(MAIN, {'half_life': {'steps': 1}})},
    **measured(spec),
    'objective': 'rectified_flow',
    'train': {'steps': 1, 'batch_size': spec['train']['batch_size']},
  }


def measured(spec: Spec) -> dict[str, Any]:
  """Those of its evaluators that need its student alone, and their section.

  Samples are drawn on the grid of the original, unless the config has one.
  """
  evaluators = {
    name: {**each, 'sweep': {STUDENT: each['sweep'][STUDENT]}}
    for name, each in spec['evaluators'].items()
    if STUDENT in each.get('sweep', {}) and 'reference' not in each
  }
  section = dict(spec['evaluation'])
  if not evaluators:
    section |= {'every': None, 'features': None, 'dataset': None}
  section['schedules'] = {
    name: every
    for name, every in section['schedules'].items()
    if name in evaluators
  }
  section['grid'] = section['grid'] or converter(spec['network']['name']).grid
  return {'evaluators': evaluators, 'evaluation': section}


def complete(
  model: Model, fresh: Params, arrays: Mapping[str, np.ndarray]
) -> Params:
  """`fresh` with the arrays of a file, and a missing label embedding of 0.

  Others may be made of these, as `Model.derived` says.
  """

  def value(name: str, leaf: Any) -> Any:
    other = jnp.zeros_like(leaf) if name.startswith(LABEL) else leaf
    return jnp.asarray(arrays.get(name, other))

  leaves = [value(name, leaf) for name, leaf in by_name(fresh).items()]
  params = jax.tree.unflatten(jax.tree.structure(fresh), leaves)
  return model.derived(params, arrays)


def converted_state(
  blueprint: Blueprint, fresh: Params, foreign: Foreign
) -> TrainState:
  """A train state of step 0 with the weights of a file."""
  (name,) = blueprint.learns
  model = blueprint.learners[name].model
  params = complete(model, fresh, foreign.params)
  state = init_state(blueprint.learners, {name: params})
  if foreign.ema is None:
    return state
  role = state.roles[name]
  main = complete(model, fresh, foreign.ema)
  role = dataclasses.replace(role, emas={**role.emas, MAIN: main})
  return dataclasses.replace(state, roles={name: role})


def compare(
  blueprint: Blueprint, exact: Params, back: Params
) -> tuple[float, float]:
  """(largest error, largest velocity) at random points; see `Conversion`.

  Raises:
    ValueError: if the velocities are not finite.
  """
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: x.astype(jnp.float64), exact)
    wanted = velocity(blueprint, wide, np.float64)
  restored = velocity(blueprint, back, np.float32)
  error, size = np.abs(restored - wanted).max(), np.abs(wanted).max()
  if not np.isfinite([error, size]).all():
    raise ValueError(
      f'the largest error of the check is {error}, of velocities up to {size}: '
      'these weights give velocities that are not finite'
    )
  return float(error), float(size)


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
