"""`--job=evaluate --of=...`: measures finished images, without a model."""

import rich

from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.protocols import Features
from flowdistill.evaluators.signature import Row
from flowdistill.figures.table import table
from flowdistill.jobs.evaluate import Options, write_rows
from flowdistill.stages.finished_images import (
  kept_in,
  measure_images,
  open_both,
  place_on_devices,
  write_reference,
)
from flowdistill.stages.job_options import path_of
from flowdistill.stages.quality_config import FRECHET, named_specs, one_spec
from flowdistill.workdir.folders import RESULTS
from flowdistill.workdir.results import say

OF_IMAGES = {'of', 'against', 'out', 'features', 'metrics', 'sets', 'real'}


def run(options: Options) -> list[Row]:
  """Measures the images `--of`, without a config.

  Raises:
    ConfigError: naming the option that is wrong, before a device is used.
  """
  given = {k: v for k, v in vars(options).items() if v != vars(Options())[k]}
  for name in [n for n in given if n not in OF_IMAGES]:
    raise ConfigError(f'--{name} has no effect with --of')
  out = path_of('out', options.out) if options.out else None
  if out is not None and out.suffix == '.npz':
    for name in [n for n in ('against', 'metrics', 'sets') if n in given]:
      raise ConfigError(f'--{name} has no effect with --out={options.out}')
  if not options.features:
    raise ConfigError(
      "--of needs --features, such as 'name=inception, path=FILE'; "
      f'{suggest("", ROOMS[Features])}'
    )
  if not options.against and (out is None or out.suffix != '.npz'):
    raise ConfigError(
      '--of needs --against: images or statistics to compare with, or '
      '--out=FILE.npz to write statistics'
    )
  features = one_spec(options.features)
  opened = open_both(options.of, options.against, features)
  if out is not None and out.suffix == '.npz':
    write_reference(opened, out, options.real)
    say(f'the statistics of {len(opened.images)} images are in {out}')
    return []
  metrics = named_specs(options.metrics or (FRECHET,))
  sets, most = options.sets or 1, options.real
  if left := len(opened.images) % max(1, sets):
    say(f'{left} of {len(opened.images)} images are in none of the {sets} sets')
  with kept_in(out) as folder:
    gauge = place_on_devices(opened, folder)
    rows = measure_images(opened, gauge, metrics, sets=sets, most=most)
    write_rows(folder, '', rows)
    gauge.blocks.clear()
  rich.print(table(rows))
  if out is not None:
    say(f'{RESULTS} is in {out}')
  return rows
