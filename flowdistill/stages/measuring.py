"""The rows of a stage's evaluators."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.image_data import ImageData
from flowdistill.build.placed import Placed
from flowdistill.build.references import statistics_or_images
from flowdistill.config.bind import ConfigError, located
from flowdistill.evaluators.signature import NOWHERE, Described, Row
from flowdistill.stages.assembly import Assembly, generators, sampled
from flowdistill.stages.failure import Unmeasured
from flowdistill.stages.gauge import Gauge
from flowdistill.stages.provenance import of_row, of_run
from flowdistill.training.sharding import Layout
from flowdistill.training.state import TrainState
from flowdistill.workdir.shelf import Shelf

BLOCKS = 'blocks'  # in the folder of an evaluation, while it is made
REFERENCES = 'references'  # in the workdir


def measure_stage(
  assembly: Assembly,
  state: TrainState,
  folder: pathlib.Path,
  names: list[str] | None = None,
  each: Callable[[Row], None] = lambda row: None,
  which: str = 'ema',
  blocks: Shelf | None = None,
) -> list[Row]:
  """The rows of evaluators, by default of all; each is passed to `each`.

  It is collective; the first host keeps the images, in `folder`/samples.

  Args:
    assembly: of the stage.
    state: whose weights are measured.
    folder: of the evaluation.
    names: of the evaluators, None for all.
    each: gets every row as soon as it is there.
    which: weights of the roles that learn: ema, params, or an EMA's name.
    blocks: what an evaluation that was killed has left, and this one leaves if
      it is; to be cleared when the rows are written.

  Raises:
    Unmeasured: with the rows that there are, if an evaluator cannot measure
      something, such as NaN samples; at the end, after the other evaluators.
  """
  stage = assembly.blueprint.stage
  chosen = [n for n in stage.evaluators if names is None or n in names]
  if not chosen:
    return []
  models = generators(assembly, sampled(assembly, state, which))
  weights = {} if which == 'ema' else {'weights': which}
  run, step = of_run(assembly), int(state.step)
  gauge = make_gauge(assembly, step, which, blocks or blocks_in(folder))
  real = assembly.blueprint.measured
  rows: list[Row] = []
  failed: list[ValueError] = []
  place = folder if jax.process_index() == 0 else NOWHERE
  for name in chosen:
    with named(name, failed):
      for row in stage.evaluators[name](models, real, gauge, place):
        about = {**run, **of_row(assembly, row, which), 'step': step}
        rows.append({**row, **weights, **about})
        each(rows[-1])
  if failed:
    raise Unmeasured('; '.join(map(str, failed)), rows) from failed[0]
  return rows


@contextlib.contextmanager
def named(evaluator: str, failed: list[ValueError]) -> Generator[None]:
  """Notes what an evaluator cannot measure, such as NaN samples, with its name.

  That is of the user, unlike a mistake in the config, which is raised at once.
  """
  try:
    yield
  except ConfigError:
    raise
  except ValueError as error:
    failed.append(ValueError(f'the evaluator {evaluator!r} failed: {error}'))


@functools.lru_cache(maxsize=2)
def placed(features: Any, layout: Layout) -> tuple[Placed, ...]:
  """The networks of `evaluation.features` on devices, which are read once.

  So the checkpoints that are evaluated one after the other share a program.
  """
  return tuple(Placed(n, layout) for n in features().networks)


def in_place_of_data(
  blueprint: Blueprint, networks: Sequence[Described]
) -> dict[str, Any]:
  """What `evaluation.reference` has: `examples` or `reference` of a gauge.

  Raises:
    ConfigError: if it has nothing for these networks, or images of another
      size than the data.
  """
  path = blueprint.stage.evaluation.reference
  if path is None:
    return {}
  with located(blueprint.key('evaluation.reference')):
    statistics, images = statistics_or_images(path, networks[0])
    shape = blueprint.images.shape
    if images is not None and images.shape != shape:
      raise ValueError(
        f'{path!r} has images {list(images.shape)}, and the data have '
        f'{list(shape)}: figures would compare the sizes'
      )
  if images is not None:
    return {'examples': ImageData(images)}
  return {'reference': statistics}


def blocks_in(folder: pathlib.Path) -> Shelf:
  """The shelf of an evaluation that writes to a folder."""
  return Shelf(folder / BLOCKS)


def make_gauge(
  assembly: Assembly, step: int, which: str, blocks: Shelf
) -> Gauge | None:
  """The feature networks of a stage on its devices; None if it has none."""
  blueprint, section = assembly.blueprint, assembly.blueprint.stage.evaluation
  if section.features is None:
    return None
  networks = placed(section.features, assembly.layout)
  return Gauge(
    networks=networks,
    layout=assembly.layout,
    blocks=blocks,
    statistics=Shelf(assembly.workdir / REFERENCES),
    of={'step': step, 'weights': which, **of_run(assembly)},
    validation=blueprint.validation,
    **in_place_of_data(blueprint, networks),
  )
