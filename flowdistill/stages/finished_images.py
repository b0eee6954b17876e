"""Measures finished images, without a model: `--of` of --job=evaluate."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from flowdistill.build.image_data import Finished, ImageData
from flowdistill.build.placed import Network, Placed
from flowdistill.build.references import StatisticsFile, statistics_or_images
from flowdistill.build.statistics import Statistics, write_statistics
from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError, Spec, bind
from flowdistill.config.protocols import Evaluator, Features
from flowdistill.config.resolve import resolve
from flowdistill.datasets.image_set import ImageSet, open_images
from flowdistill.evaluators.reference import moments_of
from flowdistill.evaluators.signature import NOWHERE, Row
from flowdistill.stages.gauge import Gauge
from flowdistill.stages.measuring import BLOCKS, REFERENCES
from flowdistill.stages.provenance import revision
from flowdistill.training.mesh import make_mesh
from flowdistill.training.sharding import Layout
from flowdistill.workdir.shelf import Shelf

MODEL, SAMPLER = 'images', 'finished'
OF_MODELS = ('sampler', 'nfe', 'seed')  # columns that images do not have


@dataclasses.dataclass(frozen=True)
class Images:
  """Images, and what they are compared with; all is opened and checked.

  Attributes:
    images: that are measured.
    real: data that they are compared with; the images themselves, if they are
      compared with statistics.
    statistics: of a file, or None.
    networks: the feature networks.
  """

  images: ImageSet
  real: Any
  statistics: StatisticsFile | None
  networks: Sequence[Network]


def open_both(of: str, against: str, features: Spec) -> Images:
  """Opens images and what they are compared with.

  Raises:
    ConfigError: naming the option that is wrong.
  """
  with option('features'):
    spec = resolve(features, Features, 'features', ROOMS)
    networks = bind(spec, Features, 'features', ROOMS)().networks
  with option('of', of):
    images = open_images(of)
    for network in networks:
      network.check(images.shape)
  statistics = real = None
  if against:
    with option('against', against):
      statistics, real = statistics_or_images(against, networks[0])
  if real is not None and real.shape != images.shape:
    raise ConfigError(
      f'--against={against} has images of {_size(real)}, and --of={of} of '
      f'{_size(images)}: figures would compare the sizes. Resize one of them'
    )
  data = ImageData(images if real is None else real)
  return Images(images, data, statistics, networks)


def measure_images(
  opened: Images,
  gauge: Gauge,
  metrics: Mapping[str, Spec],
  *,
  sets: int,
  most: int,
) -> list[Row]:
  """A row for each feature network.

  Args:
    opened: the images.
    gauge: `place_on_devices`.
    metrics: any names -> specs.
    sets: number of disjoint sets that the images are divided into.
    most: real images at most.

  Raises:
    ConfigError: for metrics that do not fit.
  """
  images = opened.images
  spec = {
    'name': 'quality',
    'metrics': dict(metrics),
    'sweep': {MODEL: [[SAMPLER, 1]]},
    'samples': len(images) // max(1, sets),
    'sets': sets,
    'real': most,
  }
  with option('metrics'):
    evaluator = bind(resolve(spec, Evaluator, '', ROOMS), Evaluator, '', ROOMS)
    rows = evaluator({MODEL: Finished(images)}, opened.real, gauge, NOWHERE)
  return [_row(row, images) for row in rows]


def write_reference(opened: Images, path: pathlib.Path, most: int) -> None:
  """Writes the statistics of the images' features, for later comparisons.

  Raises:
    ConfigError: for several networks, or a folder that does not exist.
  """
  if len(opened.networks) > 1:
    raise ConfigError('--out=FILE.npz has the statistics of one of --features')
  if not os.path.isdir(path.parent):
    raise ConfigError(f'--out={path} must be in a folder that exists')
  network = opened.networks[0]
  data = ImageData(opened.images)
  with kept_in(None) as folder:
    gauge = place_on_devices(opened, folder)
    found = moments_of(gauge, data, most, {network.name: ['moments']})
  write_statistics(
    path,
    Statistics(
      found.summaries[network.name].moments('features'),
      {**network.about, 'network': network.name, **found.about},
    ),
  )


def place_on_devices(opened: Images, folder: pathlib.Path) -> Gauge:
  """The feature networks on all devices."""
  layout = Layout(make_mesh())
  return Gauge(
    networks=tuple(Placed(n, layout) for n in opened.networks),
    layout=layout,
    blocks=Shelf(folder / BLOCKS),
    statistics=Shelf(folder / REFERENCES),
    of={'images': opened.images.digest(), 'code': revision()},
    reference=opened.statistics,
  )


@contextlib.contextmanager
def kept_in(folder: pathlib.Path | None) -> Generator[pathlib.Path]:
  """The folder, which keeps what is finished, or one that is removed."""
  if folder is not None:
    yield folder
    return
  with tempfile.TemporaryDirectory() as place:
    yield pathlib.Path(place)


@contextlib.contextmanager
def option(name: str, value: str = '') -> Generator[None]:
  """Names an option of the job in errors about it."""
  try:
    yield
  except ValueError as error:
    text = str(error).removeprefix('config.')
    key = f'--{name}={value}' if value else f'--{name}'
    raise ConfigError(
      f'{key}: {text.removeprefix(f"path = {value!r}: ")}'
    ) from error


def _row(row: Row, images: ImageSet) -> Row:
  kept = {k: v for k, v in row.items() if k not in OF_MODELS}
  about = {
    'codec': images.codec,
    'of_sha256': images.digest(),
    'code': revision(),
  }
  return {**kept, 'model': pathlib.Path(images.path).name, **about}


def _size(images: ImageSet) -> str:
  height, width, channels = images.shape
  return f'{height} x {width} in {"RGB" if channels == 3 else "grey"}'
