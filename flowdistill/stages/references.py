"""What a stage takes over from earlier ones, found by shapes alone."""

import contextlib
import itertools
import pathlib
from collections.abc import Generator, Mapping
from typing import Any

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.config.bind import ConfigError, Spec, suggest
from flowdistill.config.files import trained
from flowdistill.config.sections import Origin
from flowdistill.datasets.source import Source
from flowdistill.training import checkpoint
from flowdistill.training.state import TrainState
from flowdistill.workdir import origins

Found = tuple[Model, TrainState, Source]


def before(name: str, stages: Mapping[str, Spec]) -> dict[str, Spec]:
  """The stages before one, in order."""
  return dict(itertools.takewhile(lambda s: s[0] != name, stages.items()))


def origin_state(
  origin: Origin,
  where: str,
  *,
  stages: Mapping[str, Spec],
  workdir: pathlib.Path,
) -> Found:
  """The student of the stage that an origin names, by shapes, and its data.

  Raises:
    ConfigError: if it is none of `stages`, or no folder of a trained stage.
  """
  earlier = {f'stage:{name}': spec for name, spec in trained(stages).items()}
  name = origin.source
  unknown = name.startswith('stage:') and name not in earlier
  if unknown or (name in stages and not pathlib.Path(name).exists()):
    raise ConfigError(
      f'config.{where} = {name!r} is no earlier stage that trains; '
      f'{suggest(name, earlier)}'
    )
  with named(where):
    spec = earlier.get(name) or _load_spec(origin, workdir)
    stage = build.bind_stage(origins.network_of(spec, origin))
    source = stage.dataset()
    state = build.abstract_state(stage, source)
    return build.build_model(stage, source), state, source


def _load_spec(origin: Origin, workdir: pathlib.Path) -> Spec:
  folder = origins.folder_of(origin, workdir)
  spec = origins.load_spec(folder)
  if not checkpoint.completed_steps(folder / origins.CHECKPOINTS):
    raise ConfigError(f'{folder} has no complete checkpoint')
  return spec


@contextlib.contextmanager
def named(where: str) -> Generator[None]:
  """Puts the key in front of an error about what it refers to."""
  try:
    yield
  except ValueError as error:
    raise ConfigError(f'config.{where}: {error}') from error


def check_same_shapes(wanted: Any, given: Any, where: str) -> None:
  """Raises ConfigError naming the first array that differs."""
  ours, theirs = _shapes(wanted), _shapes(given)
  for name in dict.fromkeys([*ours, *theirs]):
    if ours.get(name) != theirs.get(name):
      raise ConfigError(
        f'config.{where}: these weights do not fit. The first array that '
        f'differs is {name}: {theirs.get(name, "missing")} there, and '
        f'{ours.get(name, "missing")} in this stage'
      )


def _shapes(tree: Any) -> dict[str, list[int]]:
  arrays = checkpoint.by_name(tree)
  return {name: list(array.shape) for name, array in arrays.items()}


def check_knows(data: Any, source: Source, where: str) -> None:
  """Refuses what knows other examples than a stage, or more classes."""
  if data.shape != source.shape or data.num_classes > source.num_classes:
    raise ConfigError(
      f'config.{where} knows {describe(data)}, and this data set has '
      f'{describe(source)}'
    )


def describe(source: Source) -> str:
  """'examples [8, 8, 1] of 10 classes'."""
  return f'examples {list(source.shape)} of {source.num_classes} classes'


def weights_at(origin: Origin, state: TrainState, where: str) -> Any:
  """The weights that an origin asks for, by shapes."""
  with named(where):
    return origins.abstract_weights(state, origin)
