"""`--job=audit`: audits the tangent of the configured network.

  python -m flowdistill.main --config FILE.py --workdir W --job=audit

On a small batch of the data set it compares dF/dt and dF/ds of a stage's
network, by jvp and by central differences, in float64, float32 and bfloat16
(see `stages/audit.py`), and prints the output dtype of each module and the
times of compilation and of a call. Without a checkpoint the weights are random,
also those that are initialised to zero. It exits with status 1 if the error of
a tangent that training uses exceeds `--tolerance`. The rows are written to
W/audit.json if W exists.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
import rich
from rich.table import Table

from flowdistill.build.attention import with_jvp
from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference
from flowdistill.evaluators.signature import Row
from flowdistill.stages.audit import INPUTS, Point, audit, output_dtypes
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_fit import check_same_shapes
from flowdistill.stages.failure import Halted
from flowdistill.stages.random_inputs import draw_weights
from flowdistill.training.json_files import write_json
from flowdistill.training.roles import Params
from flowdistill.workdir import weights
from flowdistill.workdir.weights import has_checkpoint

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
    'custom rule is wrong (or --epsilon is large)'
  ),
  ('jvp', 'float32'): 'look for a rounding of t and s',
  ('jvp', 'bfloat16'): "network.dtype = 'float32' is exact",
}


@dataclasses.dataclass(frozen=True)
class Options:
  """The network that is audited, and the tolerance.

  Attributes:
    stage: its name; by default the last one.
    weights: of a trained stage: ema, params, or the name of an EMA.
    batch_size: number of examples, the first of the data set.
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
        raise ConfigError(f'--{name}={value} must be above 0')
    if self.seed < 0:
      raise ConfigError(f'--seed={self.seed} must be at least 0')


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Prints a table, writes it to W/audit.json, and returns its rows.

  The first row also has the dtypes of `outputs` of the configured network.

  Raises:
    ConfigError: if the weights of the stage do not fit its config.
    Halted: if a tangent is not within the tolerance.
  """
  name = options.stage or list(blueprints.trained)[-1]
  blueprint, workdir = blueprints[name], blueprints.workdir
  role = blueprint.learns[0]
  models = {
    precision: blueprint.plain(role, **network_options(blueprint, precision))
    for precision in INPUTS
  }
  which, params = load_weights(blueprints, name, options)
  point = choose_point(blueprint, options)
  rows = audit(models, params, point, options.epsilon)
  rows = [{'stage': name, 'weights': which, **row} for row in rows]
  dtype = blueprint.spec['network'].get('dtype', 'float32')
  rows[0]['outputs'] = output_dtypes(models[dtype], params, point)
  if jax.process_index() == 0:
    show(rows, options)
    if workdir.is_dir():
      write_json(workdir / 'audit.json', rows)
  check_rows(rows, dtype, options.tolerance)
  return rows


def network_options(blueprint: Blueprint, precision: str) -> dict[str, str]:
  """The options of a network in some precision, whose attention has a jvp."""
  own = with_jvp(blueprint.spec['network'])
  return {'dtype': network_dtype(precision), **own}


def network_dtype(precision: str) -> str:
  """The option `dtype` of a network that computes in some precision.

  In float64 it is 'float32', with inputs in float64.
  """
  return 'bfloat16' if precision == 'bfloat16' else 'float32'


def load_weights(
  blueprints: Blueprints, stage: str, options: Options
) -> tuple[str, Params]:
  """The name of the weights, and the weights: of a checkpoint, or random."""
  blueprint = blueprints[stage]
  name = blueprint.learns[0]
  wanted = blueprint.plain(name).params
  if not has_checkpoint(blueprint.folder):
    return RANDOM, draw_weights(wanted, options.seed)
  reference = Reference(str(blueprint.folder), options.weights)
  trained = weights.load(name, blueprints.weights(name, reference, 'network'))
  check_same_shapes(wanted, trained.params, 'network')
  return f'{options.weights} at step {trained.step}', trained.params


def choose_point(blueprint: Blueprint, options: Options) -> Point:
  """The first examples at random times; scalar conditions are 1."""
  n, data, sees = options.batch_size, blueprint.data, blueprint.sees
  batch = sees.batch(data[np.arange(n) % len(data)])
  x0 = np.asarray(blueprint.encoded(batch['x0']))
  (model, *_) = (role.model for role in blueprint.learners.values())
  scalars = dict.fromkeys(model.scalars, np.ones(n, np.float32))
  return Point.between(x0, scalars | batch['cond'], options.seed)


def show(rows: Sequence[Row], options: Options) -> None:
  """Prints the name of the weights, the dtypes of modules, and the table."""
  first = rows[0]
  print(f'{first["stage"]}: the weights are {first["weights"]}')
  for dtype, modules in first['outputs'].items():
    print(f'in {dtype}: {", ".join(modules)}')
  print(f'differences are central, with a step of {options.epsilon:g}')
  table = Table(header_style='bold', border_style='dim')
  for title, style in COLUMNS.values():
    table.add_column(title, justify='right' if style else 'left', no_wrap=True)
  for row in rows:
    cells = [
      format(row[key], style) if key in row else ''
      for key, (_, style) in COLUMNS.items()
    ]
    table.add_row(*cells, end_section=row['method'] == 'difference')
  rich.print(table)


def check_rows(rows: Sequence[Row], dtype: str, tolerance: float) -> None:
  """Raises Halted for tangents beyond the tolerance that the network uses."""
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
