"""`--job=bench`: how fast the train step of a stage is on this machine.

  python -m flowdistill.main --config FILE.py --job=bench --against=torch

It compiles the step of the config, on its mesh and at its batch size, and
prints milliseconds per step, images per second, the share of the peak that
matrix products reach (MFU, where the peak of the device is known), the time of
compilation and the memory. Weights and data are random: nothing has to be
trained. With `--against=torch` the same step, of the same networks and weights,
is timed in PyTorch too, eager and compiled, in turn with ours. With
`--workdir W`, an existing folder, the rows are written to W/bench.json.
"""

import dataclasses
import importlib
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import rich
from rich.table import Table

from flowdistill.against_torch import supported
from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, located, suggest
from flowdistill.evaluators.signature import Row
from flowdistill.jobs.plan import human
from flowdistill.planning.cost import peak_flops, useful_flops
from flowdistill.stages.assembly import lay_out
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.failure import Halted
from flowdistill.stages.timing import (
  StepClock,
  draw_inputs,
  interleaved,
  quartiles,
)
from flowdistill.training.json_files import write_json

OURS, AGAINST = 'flowdistill', ('torch',)
TOLERANCE = 1e-3  # of the first losses of two implementations


@dataclasses.dataclass(frozen=True)
class Options:
  """The stage, what it is compared with, and how long.

  Attributes:
    stage: its name; by default the last one.
    against: 'torch' also times the same step in PyTorch; '' does not.
    steps: that are timed, of each; of their times the median is reported.
    warmup: steps before them, at least 1.
    seed: of weights, data and noise.
  """

  stage: str = ''
  against: str = ''
  steps: int = 10
  warmup: int = 1
  seed: int = 0

  def __post_init__(self) -> None:
    for name, least in {'steps': 1, 'warmup': 1, 'seed': 0}.items():
      value = getattr(self, name)
      if value < least:
        raise ConfigError(f'--{name}={value} must be at least {least}')
    if self.against and self.against not in AGAINST:
      raise ConfigError(
        f'--against={self.against} does not exist; '
        f'{suggest(self.against, AGAINST)}'
      )


def run(blueprints: Blueprints, options: Options) -> list[Row]:
  """Prints a table, writes it to W/bench.json, and returns its rows.

  The first row is that of this package.

  Raises:
    ConfigError: if the mesh or the batch does not fit the devices, or a part of
      the stage, or the device, has no counterpart in PyTorch.
    Halted: if the losses of two implementations differ.
  """
  name = options.stage or list(blueprints.trained)[-1]
  blueprint = blueprints[name]
  if options.against:
    supported.check_installed()
    supported.check(blueprint)
    supported.check_backend()
  with located(blueprint.key('mesh')):
    layout = lay_out(blueprint)
  with located(blueprint.key('train.batch_size')):
    layout.check_batch_size(blueprint.stage.train.batch_size)
  if options.against and jax.device_count() > 1:
    raise ConfigError(
      f'--against={options.against} compares one device, and there are '
      f'{jax.device_count()}: set CUDA_VISIBLE_DEVICES=0'
    )
  rows = measure(blueprint, options)
  if jax.process_index() == 0:
    show(rows)
    if is_given(blueprints.workdir):
      write_json(blueprints.workdir / 'bench.json', rows)
  return rows


def is_given(workdir: pathlib.Path) -> bool:
  """Whether it is a folder of the user; without --workdir it is '.'."""
  return workdir != pathlib.Path() and workdir.is_dir()


def measure(blueprint: Blueprint, options: Options) -> list[Row]:
  """Compiles, warms up and times every implementation; a row for each."""
  inputs = draw_inputs(blueprint, options.seed)
  others = {}
  if options.against:
    torch = importlib.import_module('flowdistill.against_torch.contenders')
    others = torch.contenders(blueprint, inputs)
  ours = StepClock(blueprint, inputs)
  del inputs
  rows: dict[str, Row] = {
    OURS: {'compile_s': ours.compile_s, 'peak_bytes': ours.peak_bytes}
  }
  steps: dict[str, Callable[[], Any]] = {OURS: ours}
  rows[OURS]['loss'] = float(ours()['loss'])
  for name, other in others.items():
    rows[name] = other.first()
    if 'unavailable' not in rows[name]:
      check_same(rows[OURS]['loss'], name, rows[name]['loss'])
      steps[name] = other
  period = period_of(blueprint)
  interleaved(steps, options.warmup, period)
  seconds = interleaved(steps, options.steps, period)
  for name, values in seconds.items():
    rows[name] |= speed(blueprint, values) | ratio(seconds[OURS], values)
  rows[OURS] |= device_memory()
  shared = {
    'stage': blueprint.name,
    'device': jax.devices()[0].device_kind,
    'devices': jax.device_count(),
    'batch_size': blueprint.stage.train.batch_size,
    'steps': options.steps,
  }
  return [{**shared, 'implementation': n, **row} for n, row in rows.items()]


def period_of(blueprint: Blueprint) -> int:
  """The steps after which every role and optimiser has updated as often."""
  learners = blueprint.stage.learners
  return math.lcm(
    *(
      role.every * learners[name].optim.accumulate
      for name, role in blueprint.learners.items()
    )
  )


def speed(blueprint: Blueprint, seconds: Sequence[float]) -> Row:
  """Time per step with its quartiles, and what follows from it."""
  low, middle, high = quartiles(seconds)
  work, peak = useful_flops(blueprint), peak_flops()
  reached = work / middle if work else None
  return {
    'ms_per_step': 1e3 * middle,
    'ms_quartiles': [1e3 * low, 1e3 * high],
    'images_per_s': blueprint.stage.train.batch_size / middle,
    'flops_per_s': reached,
    'mfu': reached / peak if reached and peak else None,
  }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Row:
  """Our time over theirs: the median over the rounds, and its quartiles."""
  each = [a / b for a, b in zip(ours, theirs, strict=True)]
  low, middle, high = quartiles(each)
  return {'our_time_over_this': middle, 'ratio_quartiles': [low, high]}


def check_same(ours: float, name: str, theirs: float) -> None:
  """Raises Halted unless both losses are those of the same step."""
  if not math.isclose(ours, theirs, rel_tol=TOLERANCE):
    raise Halted(
      f'the first loss is {ours:.6g}, and {theirs:.6g} in {name}: these are '
      'not the same step'
    )


def device_memory() -> Row:
  """The most bytes that a device has allocated so far, where it counts them."""
  found = jax.local_devices()[0].memory_stats() or {}
  peak = found.get('peak_bytes_in_use')
  return {} if peak is None else {'device_peak_bytes': peak}


def show(rows: Sequence[Row]) -> None:
  """Prints the stage, and a line for each implementation."""
  first = rows[0]
  print(
    f'{first["stage"]}: a step of {first["batch_size"]:,} on '
    f'{first["devices"]} x {first["device"]}, the median of {first["steps"]}'
  )
  timed = [row for row in rows if 'unavailable' not in row]
  table = Table(header_style='bold', border_style='dim')
  table.add_column('')
  for row in timed:
    table.add_column(row['implementation'], justify='right')
  lines = [figures(row) for row in timed]
  for title in list(lines[0])[: None if len(rows) > 1 else -2]:
    table.add_row(title, *(line[title] for line in lines))
  rich.print(table)
  for row in rows:
    if 'unavailable' in row:
      print(f'{row["implementation"]}: not available, {row["unavailable"]}')
  if first['mfu'] is None:
    print(f'the peak of {first["device"]} is not known, so there is no MFU')


def figures(row: Row) -> dict[str, str]:
  """What the table says of an implementation; what is unknown is empty."""
  low, high = row['ms_quartiles']
  least, most = row['ratio_quartiles']
  memory = row.get('device_peak_bytes', row.get('peak_bytes'))
  own = row['implementation'] == OURS
  return {
    'ms per step': f'{row["ms_per_step"]:.4g}',
    '  quartiles': f'{low:.4g} to {high:.4g}',
    'images/s': f'{row["images_per_s"]:.3g}',
    'rate': human(row['flops_per_s'], 'FLOP/s') if row['flops_per_s'] else '',
    'MFU': f'{row["mfu"]:.1%}' if row['mfu'] else '',
    'compilation': f'{row["compile_s"]:.3g} s' if 'compile_s' in row else '',
    'peak memory': human(memory, 'B') if memory else '',
    'our time / this': f'{row["our_time_over_this"]:.2f}',
    '      quartiles': '' if own else f'{least:.2f} to {most:.2f}',
  }
