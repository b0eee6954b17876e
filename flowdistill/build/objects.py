"""The only module that turns names in a config into objects."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from flowdistill.config import bind
from flowdistill.config import files as config
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.overrides import Override
from flowdistill.config.pair_stage import PairStage
from flowdistill.config.resolve import resolve
from flowdistill.config.sections import (
  Dataset,
  Evaluator,
  Features,
  Network,
  Objective,
  Optimiser,
  Schedule,
  Stage,
)
from flowdistill.convert import CONVERTERS, lpips
from flowdistill.convert.arrays import READERS, read_arrays, read_chosen
from flowdistill.convert.rules import Arrays, Converter, Shapes
from flowdistill.datasets import DATASETS
from flowdistill.datasets.pairs import Pairs, open_store
from flowdistill.datasets.slimflow import is_slimflow, open_slimflow
from flowdistill.datasets.source import Source
from flowdistill.evaluators import EVALUATORS
from flowdistill.flow.couplings import (
  ANNEALINGS,
  COUPLINGS,
  Annealing,
  Coupling,
)
from flowdistill.flow.guidance import GUIDANCE, ScaleLaw
from flowdistill.flow.tangent import TANGENTS, Tangent
from flowdistill.flow.times import TIME_PAIRS, TIMES, PairLaw, TimeLaw
from flowdistill.flow.weights import WEIGHTS, Weight
from flowdistill.networks import FEATURES, NETWORKS
from flowdistill.networks.lpips import LPIPS
from flowdistill.networks.stack import holding, opened
from flowdistill.objectives import OBJECTIVES
from flowdistill.samplers import GRIDS, SAMPLERS
from flowdistill.samplers.draw import Draw
from flowdistill.samplers.generator import TOLD, Generator
from flowdistill.samplers.guided import Guidance, interval
from flowdistill.samplers.plan import Grid, make_plan
from flowdistill.training import ema
from flowdistill.training.lengths import Length
from flowdistill.training.optim import OPTIMISERS, SCHEDULES, make_optimiser
from flowdistill.training.state import (
  Apply,
  Metrics,
  Params,
  Trained,
  TrainState,
  init_state,
  make_train_step,
)

ROOMS: bind.Rooms = {
  Dataset: DATASETS,
  Network: NETWORKS,
  Objective: OBJECTIVES,
  TimeLaw: TIMES,
  PairLaw: TIME_PAIRS,
  Weight: WEIGHTS,
  Coupling: COUPLINGS,
  Annealing: ANNEALINGS,
  ScaleLaw: GUIDANCE,
  Tangent: TANGENTS,
  Optimiser: OPTIMISERS,
  Schedule: SCHEDULES,
  Features: FEATURES,
  Evaluator: EVALUATORS,
}
Foreign = dict[str, Arrays]
KINDS = {'train': Stage, 'pairs': PairStage}


def load_stages(
  source: str, overrides: Iterable[Override] = ()
) -> dict[str, Spec]:
  """'FILE.py[:args]' and overrides -> stage name -> resolved dict.

  Raises:
    ConfigError: naming the key, the value and what would be right.
  """
  return config.load_stages(source, overrides, KINDS, ROOMS)


def resolve_stage(spec: Spec, where: str = '') -> Spec:
  """A stage's dict with all its defaults, of the kind that its job says."""
  return resolve(spec, config.kind_of(spec, KINDS, where), where, ROOMS)


def bind_stage(spec: Spec, where: str = '') -> Stage:
  """A resolved dict as a Stage whose named entries are bound functions."""
  return bind.bind(spec, Stage, where, ROOMS)


def bind_pairs(spec: Spec, where: str = '') -> PairStage:
  """A resolved dict as a PairStage."""
  return bind.bind(spec, PairStage, where, ROOMS)


@dataclasses.dataclass(frozen=True)
class Model:
  """A network as a pure function, and the shapes of its parameters.

  Attributes:
    graph: of the network.
    params: by shapes alone.
    scalars: the scalar conditions [b] that it takes.
  """

  graph: Any
  params: Params
  scalars: tuple[str, ...] = ()

  def apply(self, params: Params, *args: Any, **kwargs: Any) -> jax.Array:
    """apply(params, x_t, t, s, cond, key=None) -> [b, ...]."""
    return make_apply(self.graph)(params, *args, **kwargs)


def make_apply(graph: Any, watch: Any = None) -> Apply:
  """The pure function of a network.

  `watch(model)` sees every merged one, with each of its layers by itself.
  """

  def apply(params, *args, **kwargs):
    model = nnx.merge(graph, params)
    if watch is not None:
      watch(opened(model))
    return model(*args, **kwargs)

  return apply


def build_pairs(folder: pathlib.Path) -> Pairs:
  """The pairs in a folder, of ours or of SlimFlow.

  Raises:
    ValueError: if there are none, or they are not finished.
  """
  return open_slimflow(folder) if is_slimflow(folder) else open_store(folder)


def init_network(stage: Stage, source: Source) -> Any:
  """The stage's network with fresh parameters, a function of its seed."""
  return stage.network(
    source.shape, source.num_classes, rngs=nnx.Rngs(stage.seed)
  )


def init_params(stage: Stage, source: Source) -> Params:
  """Fresh parameters of the stage's network, a function of its seed."""
  return nnx.split(init_network(stage, source))[1]


def build_model(stage: Stage, source: Source) -> Model:
  """The stage's network by shapes alone."""
  module = nnx.eval_shape(lambda: init_network(stage, source))
  scalars = getattr(module, 'scalars', None)
  return Model(*nnx.split(module), scalars.names if scalars else ())


def build_perceptual() -> Model:
  """LPIPS by shapes alone; apply(params, x, y, resize) -> distances [b]."""
  module = nnx.eval_shape(lambda: LPIPS(rngs=nnx.Rngs(0)))
  return Model(*nnx.split(module))


def is_file(source: str) -> bool:
  """Whether a source is named like a file of weights, not of a stage."""
  return pathlib.PurePath(source).suffix in READERS


def read_perceptual(source: str) -> Params:
  """The weights of LPIPS that a file has, as numpy arrays.

  Raises:
    ValueError: if there is no such file, or an array in it is not right.
  """
  flat = {
    '.'.join(map(str, path)): (path, leaf)
    for path, leaf in nnx.to_flat_state(build_perceptual().params)
  }
  shapes = {name: leaf.shape for name, (_, leaf) in flat.items()}
  file = pathlib.Path(source).expanduser()
  arrays = lpips.from_torch(read_arrays(file, lpips.NAMES), shapes)
  return nnx.from_flat_state(
    {path: leaf.replace(arrays[name]) for name, (path, leaf) in flat.items()}
  )


def converter(network: str) -> Converter:
  """How weights of PyTorch become those of a network.

  Raises:
    ValueError: if nobody has written rules for it.
  """
  if network not in CONVERTERS:
    raise ValueError(
      f'there are no rules for weights of {network!r}; '
      f'{bind.suggest(network, CONVERTERS)}'
    )
  return CONVERTERS[network]


def read_foreign(file: pathlib.Path, network: str, shapes: Shapes) -> Foreign:
  """What a file of PyTorch has for a network: `params`, and maybe `ema`.

  Raises:
    ValueError: if it cannot be read, or its arrays are not those wanted.
  """
  rules = converter(network)
  arrays = read_chosen(file, lambda names: rules.wanted(names, ema=True))
  return rules.read(arrays, shapes)


def build_trained(stage: Stage, source: Source) -> Trained:
  """How the student learns: objective, optimiser, EMAs."""
  size, batch_size = len(source), stage.train.batch_size
  accumulate = stage.optim.accumulate

  def to_updates(length: Length) -> int:
    return -(-length.to_steps(batch_size, size) // accumulate)

  schedule = stage.optim.schedule(to_updates(stage.train.length), to_updates)
  tx = make_optimiser(
    stage.optim.optimiser(schedule),
    clip=stage.optim.clip,
    accumulate=accumulate,
  )
  emas = {
    name: functools.partial(
      ema.advance,
      half_life=spec.half_life.to_steps(batch_size, size),
      ramp=spec.ramp,
      until=spec.until and spec.until.to_steps(batch_size, size),
      warm=spec.warm(total_steps(stage, source)),
    )
    for name, spec in stage.ema.items()
  }
  dtypes = {name: spec.dtype for name, spec in stage.ema.items()}
  return Trained('student', stage.objective, tx, emas, dtypes)


def build_step(
  stage: Stage, trained: Trained, applies: Mapping[str, Apply]
) -> Callable[..., tuple[TrainState, Metrics]]:
  """train_step(state, frozen, batch, key), not jitted."""
  return make_train_step(
    [trained],
    applies,
    drop_cond=stage.train.drop_cond,
    flip=stage.train.flip,
  )


def held(
  f: Callable[..., Any], hold: Callable[[jax.Array], jax.Array]
) -> Callable[..., Any]:
  """f, with `hold` to say where the rows of what goes into a layer lie."""

  @functools.wraps(f)
  def wrapped(*args: Any) -> Any:
    with holding(hold):
      return f(*args)

  return wrapped


def total_steps(stage: Stage, source: Source) -> int:
  """The length of a stage in steps."""
  return stage.train.length.to_steps(stage.train.batch_size, len(source))


def abstract_state(stage: Stage, source: Source) -> TrainState:
  """The train state by shapes alone, as a checkpoint holds it."""
  trained = build_trained(stage, source)
  params = {'student': build_model(stage, source).params}
  return jax.eval_shape(lambda p: init_state([trained], p), params)


def conditions(
  batch: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, Any]:
  """A raw batch as objectives see it: `x0`, `cond`, `null` [b, ...]."""
  rest = {name: array for name, array in batch.items() if name != 'label'}
  if not num_classes:
    return {**rest, 'cond': {}, 'null': {}}
  cond = {'label': batch['label']}
  return {**rest, 'cond': cond, 'null': unconditional(cond, num_classes)}


def unconditional(
  cond: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, np.ndarray]:
  """`cond` with the label "no class"; without labels there is none, {}."""
  if 'label' not in cond:
    return {}
  return {**cond, 'label': np.full_like(cond['label'], num_classes)}


def build_generator(
  model: Model,
  params: Params,
  source: Source,
  batch_size: int,
  place: Callable[[Any], Any] = lambda arrays: arrays,
) -> Generator:
  """generator(n, sampler=..., nfe=..., cond=..., seed=...) -> Samples."""
  return Generator(
    draw=Draw(model.apply, source.shape, batch_size, place),
    params=params,
    to_null=functools.partial(unconditional, num_classes=source.num_classes),
    scalars=model.scalars,
  )


def check_sampler(
  sampler: str,
  nfe: int | None,
  *,
  grid: Grid = 'uniform',
  guidance: Guidance | None = None,
  backwards: bool = False,
  scalars: Iterable[str] = (),
  **options: Any,
) -> None:
  """Checks that there is such a sampler, and that it can make `nfe` calls.

  Args:
    sampler: its name.
    nfe: network calls, None for a sampler that chooses its steps.
    grid: a name, or a dict with a name and the grid's options.
    guidance: its scale, or a dict.
    backwards: whether it goes from data to noise.
    scalars: that the network takes; one that is told its guidance asks once.
    **options: of the sampler.

  Raises:
    ValueError: with the choices, what an option must be, or the nearest
      numbers of calls.
  """
  named = {'name': grid} if isinstance(grid, str) else dict(grid)
  for table, kind, given in (
    (SAMPLERS, 'sampler', {'name': sampler, **options}),
    (GRIDS, 'grid', named),
  ):
    _check_options(table, kind, **given)
  told = interval(guidance) is None or TOLD.keys() & set(scalars)
  make_plan(
    sampler,
    nfe,
    options,
    grid=grid,
    guidance=None if told else guidance,
    backwards=backwards,
  )


def _check_options(
  table: bind.Table, kind: str, /, name: str = '', **given: Any
) -> None:
  if name not in table:
    raise ValueError(
      f'there is no {kind} {name!r}; {bind.suggest(name, table)}'
    )
  known = bind.options(table[name])
  for key, value in given.items():
    if key not in known:
      raise ValueError(f'{name} takes no {key!r}; {bind.suggest(key, known)}')
    try:
      resolve(value, known[key].annotation, key, ROOMS)
    except ConfigError as error:  # the caller knows which key of the config
      raise ValueError(str(error).removeprefix('config.')) from error
