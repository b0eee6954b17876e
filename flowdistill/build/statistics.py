"""Moments of features in a file, with what they are of: a cache, a reference.

An .npz of `mean` [d] and `covariance` [d, d] in float64, `count` (how many
features), and `provenance`, a JSON object in UTF-8: the data, the network, the
resize, and whatever else they depend on. It is replaced whole; equal moments
give an equal file, to the byte.
"""

import dataclasses
import errno
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.files.atomic import replacing
from flowdistill.files.json_reader import parse_json, refuse, typed
from flowdistill.files.npz import read_npz, write_npz
from flowdistill.metrics.moments import Moments, checked_moments

NAMES = ('count', 'covariance', 'mean', 'provenance')


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
  """Moments, and what they are of, as JSON can hold it."""

  moments: Moments
  provenance: Mapping[str, Any]


def write_statistics(
  path: str | os.PathLike[str], statistics: Statistics
) -> None:
  """Writes the file, whose folder must exist.

  Raises:
    ValueError: if the count is not known, or the provenance is not JSON.
    OSError: that names the file.
  """
  moments = statistics.moments
  if moments.count is None:
    raise ValueError('only moments of a known count of features can be written')
  text = as_json(statistics.provenance)
  with replacing(path) as file:
    arrays = {
      'mean': np.asarray(moments.mean, np.float64),
      'covariance': np.asarray(moments.covariance, np.float64),
      'count': np.asarray(moments.count, np.int64),
      'provenance': np.frombuffer(text.encode(), np.uint8),
    }
    write_npz(file, arrays)


def read_statistics(
  path: str | os.PathLike[str], wanted: Mapping[str, Any] | None = None
) -> Statistics:
  """Reads the file.

  Args:
    path: of the file.
    wanted: the provenance that it must have; None takes any.

  Raises:
    DamagedFileError: naming the file and what is wrong with its content.
    ValueError: naming the file, if it is no .npz or of other things than
      `wanted`; it says in what they differ.
    FileNotFoundError: if there is no such file.
  """
  path = pathlib.Path(path)
  if not os.path.isfile(path):
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
  found = read_npz(path, lambda names: [n for n in NAMES if n in names])
  missing = [name for name in NAMES if name not in found]
  if missing:
    refuse(path, f'was not written by this package: it has no {missing[0]!r}')
  text, count = found['provenance'], found['count']
  if text.dtype != np.uint8 or count.dtype != np.int64 or count.shape != ():
    refuse(path, 'was not written by this package: its count or provenance')
  provenance = typed(
    parse_json(text.tobytes(), path), dict, path, 'its provenance'
  )
  try:
    moments = checked_moments(found['mean'], found['covariance'], int(count))
  except ValueError as error:
    refuse(path, f'is damaged: {error}', error)
  if wanted is not None:
    check_provenance(path, provenance, wanted)
  return Statistics(moments, provenance)


def as_json(provenance: Mapping[str, Any]) -> str:
  """Equal text of equal things, whatever their order.

  Raises:
    ValueError: for a number that is none.
    TypeError: for what JSON cannot hold.
  """
  return json.dumps(dict(provenance), sort_keys=True, allow_nan=False)


def check_provenance(
  path: pathlib.Path, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
  """Compares them as JSON, where a tuple is a list.

  Raises:
    ValueError: that says in what they differ.
  """
  wanted = json.loads(as_json(wanted))
  differing = [
    f'{key} = {_said(found, key)} must be {_said(wanted, key)}'
    for key in sorted({*found, *wanted})
    if _said(found, key) != _said(wanted, key)
  ]
  if differing:
    raise ValueError(
      f'{path} has statistics of something else: {"; ".join(differing)}'
    )


def _said(record: Mapping[str, Any], key: str) -> str:
  if key not in record:
    return 'absent'
  return json.dumps(record[key], sort_keys=True, ensure_ascii=False)
