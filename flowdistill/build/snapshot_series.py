"""A folder of snapshots of EDM2's training, as a network of any EMA length.

Their names end in the time, in thousands of images, and in the relative width
of the EMA: network-snapshot-0008388-0.050.pkl. Of each time there is one for
each width that was tracked. What was not is a linear combination of them (see
`training/ema_profiles.py`).

Source of the names: `reconstruct_phema.py` of https://github.com/NVlabs/edm2.
"""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.build.ema_snapshots import Kept, Remedy, reachable, thinned
from flowdistill.build.foreign import Foreign, read_foreign, weights_digest
from flowdistill.convert.rules import Arrays, Shapes
from flowdistill.training.ema_profiles import (
  NEGLIGIBLE,
  Fit,
  Profile,
  Snapshot,
  combine,
)

NAME = re.compile(r'(.*)-(\d{1,12})-(\d{1,9}\.\d{1,9})\.pkl')
EXAMPLE = 'network-snapshot-0008388-0.050.pkl'
UNIT = 1024  # images, of which theirs saves after a multiple
DTYPE = 'float16'  # of their numbers


@dataclasses.dataclass(frozen=True)
class Member:
  """One snapshot.

  Attributes:
    path: of the file.
    series: what its name begins with.
    kimg: thousands of images, rounded down.
    profile: of its weights, with the time in images.
  """

  path: pathlib.Path
  series: str
  kimg: int
  profile: Profile


@dataclasses.dataclass(frozen=True)
class Series:
  """An EMA at the time of a snapshot, to be reconstructed.

  Attributes:
    folder: of the snapshots.
    sigma_rel: the relative width.
    members: the snapshots, from the first to that time.
    fit: their combination.
  """

  folder: pathlib.Path
  sigma_rel: float
  members: list[Member]
  fit: Fit

  def __str__(self) -> str:
    return (
      f'{len(self.used)} snapshots in {self.folder}, as an EMA of relative '
      f'width {self.sigma_rel} at {self.members[-1].kimg} thousand images'
    )

  @property
  def used(self) -> list[Member]:
    """The snapshots that count."""
    return [
      member
      for c, member in zip(self.fit.coefficients, self.members, strict=True)
      if abs(c) > NEGLIGIBLE
    ]

  def digest(self) -> str:
    """SHA-256 of the names and the digests of the snapshots that are read."""
    digests = [f'{x.path.name} {weights_digest(x.path)}' for x in self.used]
    return hashlib.sha256('\n'.join(digests).encode()).hexdigest()

  def read(self, network: Mapping[str, Any], shapes: Shapes) -> Foreign:
    """The weights; one snapshot is in memory at a time, beside the sum.

    Args:
      network: our name and options, which must be those of each snapshot.
      shapes: path in our network -> shape.

    Raises:
      ValueError: naming the file that cannot be read, is of a network with
        other options, or is not of the training of the others.
    """
    constants = dict[str, tuple[str, np.ndarray]]()
    prefixes = dict[str, list[str]]()

    def load(member: Member) -> Arrays:
      found = read_foreign(member.path, network, shapes)
      prefixes.update(found.prefixes)
      for path in found.constants:
        first, array = constants.setdefault(
          path, (member.path.name, found.params[path])
        )
        if not np.array_equal(array, found.params[path]):
          raise ValueError(
            f'{member.path} must be of the same training as {first}; its {path}'
            ', which is never trained, has other numbers'
          )
      return found.params

    params = combine(
      [
        Snapshot(each.profile, functools.partial(load, each))
        for each in self.members
      ],
      self.fit,
    )
    exact = {path: array for path, (_, array) in constants.items()}
    return Foreign(params | exact, None, prefixes)


def open_series(
  folder: pathlib.Path, sigma_rel: float, kimg: int | None = None
) -> Series:
  """An EMA of a relative width from the snapshots in a folder.

  Args:
    folder: of the snapshots; those after the wanted time are not read.
    sigma_rel: the relative width.
    kimg: thousands of images, as in the names; None for the last.

  Raises:
    ValueError: if there are none, a name is not one of theirs, they are of
      several series, or none is of that time.
    ConfigError: if the snapshots do not reach the width.
  """
  members = members_of(folder)
  times = sorted({member.kimg for member in members})
  if kimg is not None and kimg not in times:
    raise ValueError(
      f'--kimg={kimg} must be the time of a snapshot in {folder}; the nearest '
      f'is --kimg={min(times, key=lambda time: abs(time - kimg))}'
    )
  end = times[-1] if kimg is None else kimg
  taken = {*thinned([time for time in times if time < end]), end}
  members = [member for member in members if member.kimg in taken]
  kept = [
    Kept(each.kimg, str(each.profile.sigma_rel), each.profile, DTYPE)
    for each in members
  ]
  widths = sorted({each.profile.sigma_rel for each in members})
  remedy = Remedy(
    f'the {len(members)} snapshots in {folder} (up to {end} thousand images, '
    f'of the widths {", ".join(map(str, widths))})',
    'add the snapshots of a second width',
    'add more snapshots',
    'add more snapshots',
    '--ema={}'.format,
  )
  found = reachable(kept, sigma_rel, f'--ema={sigma_rel}', remedy)
  return Series(folder, sigma_rel, members, found)


def members_of(folder: pathlib.Path) -> list[Member]:
  """The snapshots of a folder after the first image, by time and width.

  Raises:
    ValueError: if there are none, a name is not one of theirs, or they are of
      several series.
  """
  paths = sorted(folder.glob('*.pkl'))
  members = [member_of(path) for path in paths]
  members = [member for member in members if member is not None]
  if not members:
    raise ValueError(
      f'{folder} has no snapshots of EMAs after the first image, whose names '
      f'are such as {EXAMPLE}'
    )
  series = {member.series: member.path.name for member in members}
  if len(series) > 1:
    one, other, *_ = sorted(series.values())
    raise ValueError(
      f'{folder} must have the snapshots of one training; its files {one} and '
      f'{other} differ in what comes before the number of images'
    )
  members = sorted(
    members, key=lambda each: (each.kimg, each.profile.sigma_rel)
  )
  for one, other in itertools.pairwise(members):
    if one.profile == other.profile:
      raise ValueError(
        f'{folder} has {one.path.name} and {other.path.name}, which are of the '
        'same time and width: remove one of them'
      )
  return members


def member_of(path: pathlib.Path) -> Member | None:
  """What the name of a snapshot says; None for one before the first image.

  Raises:
    ValueError: if it does not say it.
  """
  match = NAME.fullmatch(path.name)
  if match is None:
    raise ValueError(
      f'{path} must have a name such as {EXAMPLE}, with the thousands of '
      'images and the relative width of the EMA; move any other .pkl elsewhere'
    )
  series, kimg, width = match[1], int(match[2]), float(match[3])
  images = (kimg * 1000 + 999) // UNIT * UNIT
  if images == 0:
    return None
  if images // 1000 != kimg:
    raise ValueError(
      f'{path} must be of a multiple of {UNIT} images, and none is {kimg} '
      'thousand, rounded down'
    )
  try:
    return Member(path, series, kimg, Profile(width, images))
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
