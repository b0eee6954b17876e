"""What samples are measured against: statistics of features, or images.

reference = open_reference(
  'VIRTUAL_imagenet256_labeled.npz', network='inception', length=2048
)
"""

import dataclasses
import functools
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flowdistill.build.foreign import digest_of
from flowdistill.build.statistics import check_provenance, read_statistics
from flowdistill.convert.reference_statistics import read_reference
from flowdistill.datasets.image_arrays import KEYS
from flowdistill.datasets.image_kinds import PICKLE, WHAT
from flowdistill.datasets.image_set import ImageSet, located, open_images
from flowdistill.datasets.listing import DAMAGED
from flowdistill.evaluators.signature import Described
from flowdistill.files.npz import NPZ, read_npz
from flowdistill.files.paths import expand
from flowdistill.files.regular import open_regular
from flowdistill.metrics.moments import Moments

OURS, THEIRS, EDM2, IMAGES = 'ours', 'mu and sigma', 'EDM2', 'images'
"""Kinds: a file of `statistics.py`; of ADM, pytorch-fid or EDM; a .pkl."""
INCEPTION, TF_BILINEAR = 'inception', 'tf_bilinear'  # of which ADM's are
STATISTICS = ('mu', 'sigma', 'mu_s', 'sigma_s')
"""Names of arrays in the statistics of others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
  """Moments of features, images, or both.

  Attributes:
    path: as it was given.
    kind: OURS, THEIRS, EDM2 or IMAGES.
    moments: of the features of the network that is asked for; None where there
      are only images.
    open: the images; None where there are only moments.
    sha256: of the file of the moments; None where there are none: images have
      their `digest()`.
    provenance: of the moments of OURS; {} where the file does not say it.
  """

  path: str
  kind: str
  moments: Moments | None = None
  open: Callable[[], ImageSet] | None = None
  sha256: str | None = None
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def count(self) -> int | None:
    """How many features the moments are of, or images; None if not known."""
    if self.moments is not None:
      return self.moments.count
    return None if self.images is None else len(self.images)

  @property
  def images(self) -> ImageSet | None:
    """The images; those beside moments are opened when asked for.

    Raises:
      ValueError: as `open_images`.
    """
    return None if self.open is None else self.open()


def open_reference(
  text: str,
  *,
  network: str,
  length: int,
  about: Mapping[str, Any] | None = None,
  spatial: bool = False,
) -> Reference:
  """What a path has to measure against; its content says what it is.

  An .npz of ADM with images beside its moments, which are those of Inception
  with TensorFlow's bilinear resize, has both for these, and otherwise images.

  Args:
    text: the path of statistics, ours or of ADM, pytorch-fid, EDM or EDM2, or
      of whatever `open_images` reads.
    network: the name of the feature network, such as 'inception'.
    length: of its features.
    about: what else the features depend on, such as `weights_sha256` and
      `resize`: statistics of ours must say the same.
    spatial: whether the features are those of the spatial layer of Inception.

  Raises:
    ValueError: that begins with "path = 'PATH'", if it is none of these, is
      damaged, or has statistics of another network, weights or resize.
  """
  if not text:
    raise ValueError(f"path = '' must be {WHAT}, or statistics of features")
  where = expand(text, f'path = {text!r}').absolute()
  with located(text):
    if {'mean', 'covariance'} <= (names := array_names(where)):
      return _ours(text, where, length, {'network': network, **(about or {})})
    pair = ('mu_s', 'sigma_s') if spatial else ('mu', 'sigma')
    images = not names.isdisjoint(KEYS)
    resize = (about or {}).get('resize', TF_BILINEAR)
    of_adm = network == INCEPTION and resize == TF_BILINEAR
    usable = of_adm and names.issuperset(pair)
    if images and not (usable and _size(where, pair[0]) == length):
      return _of_images(text)
    pickled = is_pickle(where)
    if images or pickled or not names.isdisjoint(STATISTICS):
      moments = read_reference(
        where, network=network, length=length, spatial=spatial
      )
      kind = EDM2 if pickled else THEIRS
      beside = functools.cache(lambda: open_images(text)) if images else None
      return Reference(text, kind, moments, beside, digest_of(where))
    return _of_images(text)


def _ours(
  text: str, where: pathlib.Path, length: int, wanted: Mapping[str, Any]
) -> Reference:
  """Moments of ours; what else their provenance says is of the images."""
  found = read_statistics(where)
  of = {key: v for key, v in found.provenance.items() if key in wanted}
  check_provenance(where, of, wanted)
  if (size := len(found.moments.mean)) != length:
    raise ValueError(
      f'it has features of length {size}, and those that are measured have '
      f'{length}'
    )
  return Reference(
    text,
    OURS,
    found.moments,
    sha256=digest_of(where),
    provenance=found.provenance,
  )


def _of_images(text: str) -> Reference:
  images = open_images(text)  # so that they are checked
  return Reference(text, IMAGES, open=lambda: images)


def array_names(where: pathlib.Path) -> set[str]:
  """The names of the arrays in an .npz; none in anything else."""
  if not begins_with(where, NPZ):
    return set()
  try:
    with zipfile.ZipFile(where) as archive:
      names = archive.namelist()
  except DAMAGED:
    return set()
  return {n.removesuffix('.npy') for n in names if n.endswith('.npy')}


def is_pickle(where: pathlib.Path) -> bool:
  """Whether a file begins as a pickle does."""
  return begins_with(where, PICKLE)


def begins_with(where: pathlib.Path, start: bytes) -> bool:
  """Whether it is a regular file that begins so, and can be read."""
  try:
    with open_regular(where) as file:
      return file.read(len(start)) == start
  except (OSError, ValueError):
    return False


def _size(where: pathlib.Path, name: str) -> int:
  return int(np.size(read_npz(where, lambda _: [name])[name]))


@dataclasses.dataclass(frozen=True)
class StatisticsFile:
  """Statistics of a file, for the networks that they are of.

  Attributes:
    path: as it was given.
  """

  path: str

  @property
  def about(self) -> dict[str, str]:
    """Columns of a row: which reference it is."""
    where = expand(self.path, f'path = {self.path!r}')
    return {'reference': where.name, 'reference_sha256': digest_of(where)}

  def moments(self, network: Described, kind: str) -> Moments:
    """Of the features of a kind.

    Raises:
      ValueError: as `open_reference`, or if there are only images.
    """
    found = open_reference(
      self.path,
      network=network.name,
      length=network.length_of(kind),
      about=network.about,
      spatial=kind == 'spatial',
    )
    if found.moments is None:
      raise ValueError(
        f'path = {self.path!r} has images, and no statistics of {network.name}'
      )
    return found.moments


def statistics_or_images(
  text: str, network: Described
) -> tuple[StatisticsFile | None, ImageSet | None]:
  """What a path has to measure a network's features against.

  Raises:
    ValueError: as `open_reference`.
  """
  kind = 'features' if 'features' in network.kinds else network.kinds[0]
  found = open_reference(
    text,
    network=network.name,
    length=network.length_of(kind),
    about=network.about,
  )
  if found.moments is not None:
    return StatisticsFile(text), None
  return None, found.images
