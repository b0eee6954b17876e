"""`--job=plan`: time, memory and cost of a run, before it is started.

  python -m flowdistill.main --config FILE.py --job=plan --devices=8 --kind=h100

All is computed from abstract shapes: nothing is trained, read or measured, and
no device is used (without `--devices` their number is queried). It prints for
every stage, on the mesh of the config, the parameters, the work of a step, the
bytes per device, the largest arrays, the communication, and with `--kind` the
time and its bound, the cost and whether it fits. With aspect-ratio buckets a
line for each shape follows, as a program is compiled for each. `--json=FILE`
writes the rows.
"""

import dataclasses
import math
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
from flowdistill.stages.job_options import path_of
from flowdistill.training.json_files import write_json

HERE = -1
NAMES = {
  'parameters': 'parameters',
  'ema': 'EMA weights',
  'optimiser': 'optimiser',
  'frozen': 'frozen networks',
  'offloaded': 'offloaded to the host',
  'batch': 'batch',
  'gradients': 'gradients',
  'activations': 'activations',
  'temporaries': 'temporaries',
  'peak': 'at the peak',
}

OFFLOADED = (
  '{} come from the host whenever an offloaded network is called, and once '
  'more in the backward pass of a LoRA: no time here includes that'
)


@dataclasses.dataclass(frozen=True)
class Options:
  """The machine and its price.

  Attributes:
    stage: its name; by default all of them.
    devices: number of devices; -1 for those of this machine.
    kind: of device, a name in HARDWARE; without it no time is estimated.
    utilisation: fraction of peak matrix throughput that a step reaches.
    price: dollars per device-hour; 0 prints hours only.
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
        'of this machine'
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

  Only the first of several hosts prints and writes.

  Raises:
    ConfigError: if the mesh does not make up the devices, or they do not
      divide the batch.
  """
  place = path_of('json', options.json)
  here = options.devices == HERE
  devices = jax.device_count() if here else options.devices
  names = [options.stage] if options.stage else list(blueprints.trained)
  rows = []
  for name in names:
    row = forecast_of(blueprints, name, devices)
    rows.append({**row, **priced(row, options)})
  # On a single host, process_index would initialise its devices.
  if jax.distributed.is_initialized() and jax.process_index():
    return rows
  if options.json:
    written = [{**row, 'traffic': traffic_rows(row)} for row in rows]
    write_json(place, written)
  for row in rows:
    show(row)
  print('all of this is calculated from shapes, and none of it measured')
  return rows


def forecast_of(blueprints: Blueprints, name: str, devices: int) -> Row:
  """The forecast of a stage, which those with the same step share."""
  blueprint = blueprints[name]
  key = 'forecast', devices, blueprint.likeness
  row = blueprints.once(key, lambda: forecast(blueprint, devices))
  return {**row, 'stage': name}


def priced(row: Row, options: Options) -> Row:
  """The estimate for the kind of device; {} without one."""
  if not options.kind:
    return {}
  share, price = options.utilisation, options.price
  return estimate(row, options.kind, utilisation=share, price=price)


def traffic_rows(row: Row) -> list[Row]:
  """The transfers as rows, with seconds if the kind of device is known."""
  each = row.get('seconds_of_traffic', [None] * len(row['traffic']))
  return [
    {**dataclasses.asdict(t), 'moved': t.moved, 'seconds': s}
    for t, s in zip(row['traffic'], each, strict=True)
  ]


def show(row: Row) -> None:
  """Prints the size, the tables and the estimate of a stage."""
  mesh = ' x '.join(f'{name} {size}' for name, size in row['mesh'].items())
  print(f'{row["stage"]}: {row["devices"]} device(s), {mesh}')
  table = f', and a table of {row["stored"]:,}' if row['stored'] else ''
  learn = row['parameters_that_learn']
  lora = '' if learn == row['parameters'] else f', of which {learn:,} learn'
  print(
    f'{row["parameters"]:,} parameters{lora}{table}; a call for one example is '
    f'{human(row["macs"], "MAC")}, {human(row["macs_of_convolutions"], "MAC")} '
    'of it in convolutions'
  )
  print(
    f'a step of {row["batch_size"]:,} examples is '
    f'{human(row["flops_per_step"], "FLOP")}, {row["forward_passes"]:.2f} '
    'forward passes'
  )
  rich.print(bytes_table(row), largest_table(row['largest']))
  if row['buckets']:
    rich.print(buckets_table(row['buckets']))
  if row['traffic']:
    rich.print(traffic_table(traffic_rows(row)))
  for line in verdict(row):
    print(line)


def bytes_table(row: Row) -> Table:
  """The bytes per device, a line for each part."""
  table = Table(header_style='bold', border_style='dim')
  table.add_column('on a device')
  table.add_column('bytes', justify='right')
  for key, name in NAMES.items():
    if key == 'offloaded' and not row['bytes_per_device'][key]:
      continue
    nbytes = human(row['bytes_per_device'][key], 'B')
    table.add_row(name, nbytes, end_section=key == 'temporaries')
  return table


def largest_table(rows: Sequence[Row]) -> Table:
  """The largest arrays, a line each."""
  table = Table(header_style='bold', border_style='dim')
  for title in ('largest arrays', 'shape', 'bytes', 'sharded along'):
    table.add_column(title, justify='right' if title == 'bytes' else 'left')
  for row in rows:
    shape = ' x '.join(map(str, row['shape']))
    name, nbytes = f'{row["role"]} {row["path"]}', human(row['bytes'], 'B')
    table.add_row(name, shape, nbytes, row['cut'] or 'no axis')
  return table


def buckets_table(rows: Sequence[Row]) -> Table:
  """The shapes of batches, a line and a compiled program for each."""
  table = Table(header_style='bold', border_style='dim')
  for title in ('bucket', 'seen as', 'a step', 'batch', 'at the peak'):
    justify = 'left' if title in ('bucket', 'seen as') else 'right'
    table.add_column(title, justify=justify)
  for row in rows:
    shapes = (' x '.join(map(str, row[key])) for key in ('pictures', 'shape'))
    sizes = (human(row[key], 'B') for key in ('batch', 'peak'))
    table.add_row(*shapes, human(row['flops_per_step'], 'FLOP'), *sizes)
  return table


def traffic_table(rows: Sequence[Row]) -> Table:
  """The transfers of a device in a step, a line each."""
  table = Table(header_style='bold', border_style='dim')
  for title in ('sent in a step', 'of', 'along', 'bytes', 'time'):
    justify = 'right' if title in ('bytes', 'time') else 'left'
    table.add_column(title, justify=justify)
  for row in rows:
    time = '' if row['seconds'] is None else human(row['seconds'], 's')
    names = (row[key] for key in ('collective', 'what', 'axis'))
    table.add_row(*names, human(row['moved'], 'B'), time)
  return table


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
  fetched = row['bytes_per_device']['offloaded']
  return [
    f'at {row["utilisation"]:.0%} of the peak of {row["kind"]}: products take '
    f'{products} of a step, communication {sending}{most}',
    f'a step takes {together}, {apart} if nothing overlaps: it is bound by '
    f'{row["bound_by"]}',
    f'{row["steps"]:,} steps take {duration(length)} or more, '
    f'{row["device_hours"]:.3g} device-hours{cost}',
    f'fits: {fits}, {100 * row["share_of_memory"]:.3g} % of '
    f'{human(row["memory"], "B")}',
    *[OFFLOADED.format(human(fetched, 'B'))] * bool(fetched),
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
