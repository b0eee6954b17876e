"""Where weights come from: an earlier stage, or the folder of another run."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import jax

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.config import bind
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.files import ONE_STAGE, TRAIN
from flowdistill.config.sections import Origin
from flowdistill.datasets.pairs import MANIFEST, Pairs
from flowdistill.training import checkpoint
from flowdistill.training.rounding import cast
from flowdistill.training.sharding import Layout
from flowdistill.training.state import MAIN, Params, RoleState, TrainState

CONFIG, CHECKPOINTS, PAIRS = 'config.json', 'checkpoints', 'pairs'
STAGE = 'stage:'


def weights_of(state: TrainState, origin: Origin) -> tuple[str, Params]:
  """The name and the weights of the student that an origin asks for.

  Raises:
    ConfigError: if there is no EMA of that name.
  """
  role = state.roles['student']
  name = origin.weights
  if name == 'params' or (name == 'ema' and not role.emas):
    return 'params', role.params
  name = MAIN if name == 'ema' else name
  if name not in role.emas:
    choices = ['ema', 'params', *role.emas]
    raise ConfigError(
      f'{origin.source} keeps no weights {name!r}; '
      f'{bind.suggest(name, choices)}'
    )
  return name, role.emas[name]


def abstract_weights(state: TrainState, origin: Origin) -> Params:
  """The weights that `load_weights` returns for an origin, by shapes."""
  return kept_shapes(weights_of(state, origin)[1], origin)


def kept_shapes(weights: Params, origin: Origin) -> Params:
  """Weights by shapes, of the dtype that an origin asks for."""
  return jax.eval_shape(lambda x: cast(x, origin.dtype), weights)


def network_of(spec: Spec, origin: Origin) -> Spec:
  """A stage's config with its network as an origin asks for it."""
  network = spec['network']
  if origin.dtype == Origin.dtype or 'dtype' not in network:
    return spec
  return {**spec, 'network': {**network, 'dtype': origin.dtype}}


def matching(fresh: Params, given: Params) -> dict[str, Any]:
  """The arrays of `given` that `fresh` has too, by name, of the same shape."""
  ours, theirs = checkpoint.by_name(fresh), checkpoint.by_name(given)
  return {
    name: array
    for name, array in theirs.items()
    if name in ours and ours[name].shape == array.shape
  }


def take_matching(fresh: Params, given: Params) -> Params:
  """`fresh` with the arrays of `given` in it that match."""
  names, taken = checkpoint.by_name(fresh), matching(fresh, given)
  leaves, tree = jax.tree.flatten(fresh)
  found = [
    taken.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)
  ]
  return jax.tree.unflatten(tree, found)


def stage_folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """W/<stage>/, or W itself for a config without stages."""
  return workdir if name == ONE_STAGE else workdir / name


def folder_of(origin: Origin, workdir: pathlib.Path) -> pathlib.Path:
  """The folder of the stage that an origin names.

  Raises:
    ConfigError: if no stage has been trained there.
  """
  if origin.source.startswith(STAGE):
    return stage_folder(workdir, origin.source.removeprefix(STAGE))
  return last_stage(pathlib.Path(origin.source).expanduser())


def stage_names(workdir: pathlib.Path) -> list[str]:
  """The stages of the run in a workdir that have begun, in order.

  Raises:
    ConfigError: if there is no run.
  """
  path = workdir / CONFIG
  if not path.is_file():
    raise ConfigError(
      f'{workdir} is no folder of a run: there is no {CONFIG} in it'
    )
  names = json.loads(path.read_text()).get('stages', [ONE_STAGE])
  begun = [n for n in names if (stage_folder(workdir, n) / CONFIG).is_file()]
  if not begun:
    raise ConfigError(f'{workdir}: none of the stages {names} has begun')
  return begun


def last_stage(folder: pathlib.Path) -> pathlib.Path:
  """The folder of a run's last stage that trains; a stage's own is itself.

  Raises:
    ConfigError: if there is no run, or nothing has been trained in it.
  """
  folders = [stage_folder(folder, name) for name in stage_names(folder)]
  trained = [path for path in folders if load_spec(path)['job'] == TRAIN]
  if not trained:
    raise ConfigError(f'{folder}: no stage has been trained')
  return trained[-1]


def load_spec(folder: pathlib.Path) -> Spec:
  """The resolved config that a stage's folder was made with.

  Raises:
    ConfigError: if the folder was made by a version that knew other keys.
  """
  made = json.loads((folder / CONFIG).read_text())
  if 'config' not in made:
    raise ConfigError(f'{folder / CONFIG} was not written by this package')
  try:
    return build.resolve_stage(made['config'])
  except ConfigError as error:
    raise ConfigError(f'{folder / CONFIG}: {error}') from error


def pairs_folder(source: str, workdir: pathlib.Path) -> pathlib.Path:
  """Where the pairs of 'stage:NAME' are, or those of a folder."""
  if source.startswith(STAGE):
    return stage_folder(workdir, source.removeprefix(STAGE)) / PAIRS
  return pathlib.Path(source).expanduser()


def open_pairs(source: str, workdir: pathlib.Path) -> Pairs:
  """The pairs of an earlier stage, or of a folder of ours or of SlimFlow.

  Raises:
    ConfigError: if there are none, or they are not finished.
  """
  try:
    return build.build_pairs(pairs_folder(source, workdir))
  except ValueError as error:
    raise ConfigError(f'config.pairs = {source!r}: {error}') from error


def describe_pairs(source: str, workdir: pathlib.Path) -> str:
  """What pairs were read, such that others are told apart."""
  manifest = pairs_folder(source, workdir) / MANIFEST
  if not manifest.is_file():
    return source
  digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
  return f'{source} of sha256 {digest}'


@dataclasses.dataclass(frozen=True)
class Trainee:
  """A trained network: its model, weights and where from.

  Attributes:
    model: the network.
    params: its weights.
    stage: the Stage that it learnt in, None for the weights of a file.
    step: of that stage, 0 for a file.
  """

  model: Model
  params: Params
  stage: Any
  step: int


def describe(origin: Origin, trainee: Trainee) -> str:
  """What weights were loaded, such that others are told apart."""
  if trainee.stage is not None:
    return f'{origin.source} at step {trainee.step}'
  with pathlib.Path(origin.source).expanduser().open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  return f'{origin.source} of sha256 {digest}'


def load_weights(
  origin: Origin,
  workdir: pathlib.Path,
  layout: Layout | None = None,
  step: int | None = None,
) -> Trainee:
  """Reads the weights that an origin names, and nothing else, from disk.

  They are of the origin's dtype, whatever they were kept in.

  With a layout they lie as its rules say, else on the first device. They are of
  the last checkpoint, or of a step.

  Raises:
    ConfigError: if there are none.
  """
  if build.is_file(origin.source):
    params = build.read_perceptual(origin.source)
    where = layout.shardings(params) if layout else None
    params = cast(jax.device_put(params, where), origin.dtype)
    return Trainee(build.build_perceptual(), params, None, 0)
  folder = folder_of(origin, workdir)
  stage = build.bind_stage(network_of(load_spec(folder), origin))
  source = stage.dataset()
  state = build.abstract_state(stage, source)
  name, weights = weights_of(state, origin)
  weights = layout.abstract(weights) if layout else weights
  role = RoleState(weights, {}, {})
  if name != 'params':
    role = RoleState({}, {}, {name: weights})
  wanted = {'roles': {'student': role}}
  try:
    found = checkpoint.restore(folder / CHECKPOINTS, wanted, step, partial=True)
  except FileNotFoundError as error:
    raise ConfigError(f'{origin.source}: {error}') from error
  if step is None:
    step = checkpoint.completed_steps(folder / CHECKPOINTS)[-1]
  role = found['roles']['student']
  params = role.params if name == 'params' else role.emas[name]
  params = cast(params, origin.dtype)
  return Trainee(build.build_model(stage, source), params, stage, step)
