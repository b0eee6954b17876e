"""`--job=bench`: audits the tangent of the configured network.

  python -m flowdistill.main --config FILE.py --workdir W --job=bench

On a small batch of the data set it compares dF/dt and dF/ds of a stage's
network, by jvp and by central differences, in float64, float32 and bfloat16
(see `audit.py`), and says in which dtype each of its modules answers, and what
compiling and a call take. The weights are those of the stage's checkpoint; if
it has none they are random, and what starts at zero is not left there. It
stops with status 1 if a tangent that training relies on is further than
`--tolerance` from the reference. The rows are written to W/bench.json if there
is a W.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import rich
from rich.table import Table

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.sections import Origin
from flowdistill.datasets.source import Source
from flowdistill.evaluators.signature import Row
from flowdistill.stages.audit import INPUTS, Point, audit, output_dtypes
from flowdistill.stages.failure import Halted
from flowdistill.stages.references import check_same_shapes
from flowdistill.training import checkpoint
from flowdistill.training.files import write_json
from flowdistill.training.state import Params
from flowdistill.workdir import origins
from flowdistill.workdir.origins import CHECKPOINTS

RANDOM = 'random, also where they start at zero'
COLUMNS = {  # key: (title, format)
  'method': ('method', ''),
  'precision': ('precision', ''),
  'F': ('error\nof F', '.1e'),
  'dF_dt': ('error\nof dF/dt', '.1e'),
  'dF_ds': ('error\nof dF/ds', '.1e'),
  'compile_s': ('compile\n(s)', '.2f'),
  'ms_per_call': ('ms per\ncall', '.3f'),
}
ADVICE = {
  ('difference', 'float64'): (
    'jvp is not the derivative of the network: a gradient is stopped, or a '
    'rule of its own is wrong (or --epsilon is large)'
  ),
  ('jvp', 'float32'): 'look for what is rounded on the way of t and s',
  ('jvp', 'bfloat16'): "network.dtype = 'float32' is exact",
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is audited, and how exact it has to be.

  Attributes:
    stage: its name; by default the last one.
    weights: of a trained stage: ema, params, or the name of an EMA.
    batch_size: examples, the first ones of the data set.
    epsilon: step of the central differences.
    tolerance: largest relative error of a tangent.
    seed: of noise, times and random weights.
  """

  stage: str = ''
  weights: str = 'ema'
  batch_size: int = 16
  epsilon: float = 1e-3
  tolerance: float = 0.02
  seed: int = 0

  def __post_init__(self) -> None:
    for name in ('batch_size', 'epsilon', 'tolerance'):
      value = getattr(self, name)
      if not 0 < value < math.inf:
        raise ConfigError(f'--{name}={value}: it must be above 0')
    if self.seed < 0:
      raise ConfigError(f'--seed={self.seed}: it must be at least 0')


def run(
  stages: Mapping[str, Spec], workdir: pathlib.Path, options: Options
) -> list[Row]:
  """Prints a table, writes it to W/bench.json, and returns its rows.

  The first row also has the dtypes of `outputs` of the configured network.

  Raises:
    ConfigError: if the weights of the stage do not fit its config.
    Halted: if a tangent is not within the tolerance.
  """
  name = options.stage or list(stages)[-1]
  spec, folder = stages[name], origins.stage_folder(workdir, name)
  source = build.bind_stage(spec).dataset()
  models = {dtype: network(spec, source, dtype) for dtype in INPUTS}
  which, params = load_weights(models['float32'].params, folder, options)
  point = choose_point(models['float32'], source, options)
  rows = audit(models, params, point, options.epsilon)
  rows = [{'stage': name, 'weights': which, **row} for row in rows]
  dtype = spec['network']['dtype']
  rows[0]['outputs'] = output_dtypes(models[dtype], params, point)
  if jax.process_index() == 0:
    show(rows, options)
    if workdir.is_dir():
      write_json(workdir / 'bench.json', rows)
  check_rows(rows, dtype, options.tolerance)
  return rows


def network(spec: Spec, source: Source, precision: str) -> Model:
  """The network of a stage as it computes in another precision.

  In float64 it is the one of dtype float32 on inputs that are float64.
  """
  dtype = 'bfloat16' if precision == 'bfloat16' else 'float32'
  other = {**spec, 'network': {**spec['network'], 'dtype': dtype}}
  return build.build_model(build.bind_stage(other), source)


def load_weights(
  wanted: Params, folder: pathlib.Path, options: Options
) -> tuple[str, Params]:
  """Says which weights these are, and reads them, or draws them by shape.

  Raises:
    ConfigError: if there is a checkpoint, and it is of another network.
  """
  if not checkpoint.completed_steps(folder / CHECKPOINTS):
    return RANDOM, draw_weights(wanted, options.seed)
  origin = Origin(str(folder), options.weights)
  trained = origins.load_weights(origin, folder)
  check_same_shapes(wanted, trained.params, 'network')
  return f'{options.weights} at step {trained.step}', trained.params


def draw_weights(wanted: Params, seed: int) -> Params:
  """Normal, of variance 1 / (4 inputs); a zero would hide what feeds it."""
  rng = np.random.default_rng(seed)

  def draw(w: jax.ShapeDtypeStruct) -> np.ndarray:
    scale = (4 * math.prod(w.shape[:-1])) ** -0.5
    return (scale * rng.standard_normal(w.shape)).astype(w.dtype)

  return jax.tree.map(draw, wanted)


def choose_point(model: Model, source: Source, options: Options) -> Point:
  """The first examples at random times; scalar conditions are 1."""
  batch = source[np.arange(options.batch_size) % len(source)]
  ones = np.ones(options.batch_size, np.float32)
  scalars = dict.fromkeys(model.scalars, ones)
  batch = build.conditions(batch, source.num_classes)
  return Point.between(batch['x0'], scalars | batch['cond'], options.seed)


def show(rows: Sequence[Row], options: Options) -> None:
  """Prints which network it is, the dtypes of its modules, and the table."""
  first = rows[0]
  print(f'{first["stage"]}: the weights are {first["weights"]}')
  for dtype, modules in first['outputs'].items():
    print(f'in {dtype}: {", ".join(modules)}')
  print(f'differences are central, with a step of {options.epsilon:g}')
  made = Table(header_style='bold', border_style='dim')
  for title, style in COLUMNS.values():
    made.add_column(title, justify='right' if style else 'left', no_wrap=True)
  for row in rows:
    cells = [
      format(row[key], style) if key in row else ''
      for key, (_, style) in COLUMNS.items()
    ]
    made.add_row(*cells, end_section=row['method'] == 'difference')
  rich.print(made)


def check_rows(rows: Sequence[Row], dtype: str, tolerance: float) -> None:
  """Refuses tangents that are off, of those that this network would use.

  Raises:
    Halted: naming all of them, with what to do.
  """
  used = {'float64', 'float32', dtype}
  off = [
    f'{name} by {row["method"]} in {row["precision"]} is {row[name]:.1%} off '
    f'({ADVICE[row["method"], row["precision"]]})'
    for row in rows
    if (row['method'], row['precision']) in ADVICE and row['precision'] in used
    for name in ('dF_dt', 'dF_ds')
    if not row[name] <= tolerance  # NaN is off too
  ]
  if off:
    raise Halted(
      f'{rows[0]["stage"]}: not within --tolerance={tolerance:g} of jvp in '
      f'float64: {"; ".join(off)}'
    )
