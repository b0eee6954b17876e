"""`--job=plan`: what a run will take, before any machine is rented.

  python -m flowdistill.main --config FILE.py --job=plan --devices=8 --kind=h100

From shapes alone: nothing is trained, read or written, and no device is used
(but asked for their number, without `--devices`). It says for every stage, on
the mesh of the config, the parameters, the work of a step, the bytes on a
device, the largest arrays, what devices send each other, and with `--kind` the
time, what bounds it, the cost and whether it fits. All of it is calculated and
none of it measured. `--json=FILE` writes the rows as well.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import jax
import rich
from rich.table import Table

from flowdistill.config.bind import ConfigError, suggest
from flowdistill.evaluators.signature import Row
from flowdistill.planning.estimate import estimate
from flowdistill.planning.forecast import forecast
from flowdistill.planning.hardware import HARDWARE
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.json_files import write_json

HERE = -1
NAMES = {
  'parameters': 'parameters',
  'ema': 'EMA weights',
  'optimiser': 'optimiser',
  'frozen': 'frozen networks',
  'batch': 'batch',
  'gradients': 'gradients',
  'activations': 'activations',
  'temporaries': 'temporaries',
  'peak': 'at the peak',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """For which machine, and at what price.

  Attributes:
    stage: its name; by default all of them.
    devices: how many; -1 for those that are here.
    kind: of device, a name in HARDWARE; by default none, and no time.
    utilisation: share of the peak of its products that a step reaches.
    price: of a device for an hour, in dollars; 0 for hours alone.
    json: file for the rows; by default none.
  """

  stage: str = ''
  devices: int = HERE
  kind: str = ''
  utilisation: float = 0.4
  price: float = 0.0
  json: str = ''

  def __post_init__(self) -> None:
    if self.devices < 1 and self.devices != HERE:
      raise ConfigError(
        f'--devices={self.devices} must be at least 1, or -1 for those '
        'that are here'
      )
    if self.kind and self.kind not in HARDWARE:
      raise ConfigError(
        f'--kind={self.kind} does not exist; {suggest(self.kind, HARDWARE)}'
      )
    if not 0 < self.utilisation <= 1:
      raise ConfigError(
        f'--utilisation={self.utilisation} must be above 0 and at most 1'
      )
    if not 0 <= self.price < math.inf:
      raise ConfigError(f'--price={self.price} must be at least 0')


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Prints a table for every stage that trains, and returns their rows.

  Of several hosts, the first prints and writes.

  Raises:
    ConfigError: if the mesh does not make up the devices, or they do not
      divide the batch.
  """
  devices = options.devices
  if devices == HERE:
    devices = jax.device_count()
  names = [options.stage] if options.stage else list(blueprints.trained)
  rows = []
  for name in names:
    row = forecast(blueprints[name], devices)
    rows.append({**row, **priced(row, options)})
  # One host alone is not asked who it is: that would take its devices.
  if jax.distributed.is_initialized() and jax.process_index():
    return rows
  if options.json:
    written = [{**row, 'traffic': traffic_rows(row)} for row in rows]
    write_json(pathlib.Path(options.json).expanduser(), written)
  for row in rows:
    show(row)
  print('all of this is calculated from shapes, and none of it measured')
  return rows


def priced(row: Row, options: Options) -> Row:
  """What `estimate` says of the kind of device; {} without one."""
  if not options.kind:
    return {}
  share, price = options.utilisation, options.price
  return estimate(row, options.kind, utilisation=share, price=price)


def traffic_rows(row: Row) -> list[Row]:
  """What is sent, as rows; with a kind also how long each takes."""
  each = row.get('seconds_of_traffic', [None] * len(row['traffic']))
  return [
    {**dataclasses.asdict(t), 'moved': t.moved, 'seconds': s}
    for t, s in zip(row['traffic'], each, strict=True)
  ]


def show(row: Row) -> None:
  """Prints a stage: what it is, two tables, and what it takes."""
  mesh = ' x '.join(f'{name} {size}' for name, size in row['mesh'].items())
  print(f'{row["stage"]}: {row["devices"]} device(s), {mesh}')
  print(
    f'{row["parameters"]:,} parameters; a call for one example is '
    f'{human(row["macs"], "MAC")}, {human(row["macs_of_convolutions"], "MAC")} '
    'of it in convolutions'
  )
  print(
    f'a step of {row["batch_size"]:,} examples is '
    f'{human(row["flops_per_step"], "FLOP")}, {row["forward_passes"]:.2f} '
    'forward passes'
  )
  rich.print(bytes_table(row), largest_table(row['largest']))
  if row['traffic']:
    rich.print(traffic_table(traffic_rows(row)))
  for line in verdict(row):
    print(line)


def bytes_table(row: Row) -> Table:
  """What is on a device, a line each."""
  made = Table(header_style='bold', border_style='dim')
  made.add_column('on a device')
  made.add_column('bytes', justify='right')
  found = row['bytes_per_device']
  for key, name in NAMES.items():
    made.add_row(name, human(found[key], 'B'), end_section=key == 'temporaries')
  return made


def largest_table(rows: Sequence[Row]) -> Table:
  """The largest arrays, a line each."""
  made = Table(header_style='bold', border_style='dim')
  for title in ('largest arrays', 'shape', 'bytes', 'cut along'):
    made.add_column(title, justify='right' if title == 'bytes' else 'left')
  for row in rows:
    shape = ' x '.join(map(str, row['shape']))
    name = f'{row["role"]} {row["path"]}'
    made.add_row(name, shape, human(row['bytes'], 'B'), row['cut'] or 'nothing')
  return made


def traffic_table(rows: Sequence[Row]) -> Table:
  """What a device sends in a step, and receives, a line each."""
  made = Table(header_style='bold', border_style='dim')
  for title in ('sent in a step', 'of', 'along', 'bytes', 'time'):
    justify = 'right' if title in ('bytes', 'time') else 'left'
    made.add_column(title, justify=justify)
  for row in rows:
    time = '' if row['seconds'] is None else human(row['seconds'], 's')
    names = (row[key] for key in ('collective', 'what', 'axis'))
    made.add_row(*names, human(row['moved'], 'B'), time)
  return made


def verdict(row: Row) -> list[str]:
  """Time, cost, and whether it fits, a line each; [] without a kind."""
  if 'kind' not in row:
    return []
  dollars = row['dollars']
  cost = '' if dollars is None else f', {dollars:,.2f} dollars'
  length = row['steps'] * row['seconds_per_step']
  fits = 'yes' if row['fits'] else 'no'
  products, sending, together, apart = (
    human(row[f'seconds_{key}'], 's')
    for key in ('of_products', 'of_communication', 'per_step', 'per_step_apart')
  )
  most = f', most of it {row["dominant"]}' if row['dominant'] else ''
  return [
    f'at {row["utilisation"]:.0%} of the peak of {row["kind"]}: products take '
    f'{products} of a step, communication {sending}{most}',
    f'a step takes {together}, {apart} if nothing overlaps: it is bound by '
    f'{row["bound_by"]}',
    f'{row["steps"]:,} steps take {duration(length)} or more, '
    f'{row["device_hours"]:.3g} device-hours{cost}',
    f'fits: {fits}, {100 * row["share_of_memory"]:.3g} % of '
    f'{human(row["memory"], "B")}',
  ]


def duration(seconds: float) -> str:
  """A time in seconds, minutes, hours or days."""
  for unit, size in (('days', 86400), ('h', 3600), ('min', 60)):
    if seconds >= 2 * size:
      return f'{seconds / size:.3g} {unit}'
  return human(seconds, 's')


def human(number: float, unit: str) -> str:
  """1234567 and 'B' -> '1.23 MB', in decimal steps."""
  if not number:
    return f'0 {unit}'
  power = min(max(math.floor(math.log10(number) / 3), -3), 5)
  prefix = 'nµm kMGTP'[power + 3].strip()
  return f'{number / 1000**power:.3g} {prefix}{unit}'
