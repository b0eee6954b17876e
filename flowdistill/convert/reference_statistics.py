"""Reference statistics of other systems: the moments of features of a data set.

  ADM (OpenAI)   .npz   mu, sigma, and mu_s, sigma_s of the spatial features;
                        the published ones have images, arr_0, beside them
  pytorch-fid    .npz   mu, sigma
  EDM            .npz   mu, sigma
  EDM2           .pkl   a dict: num_images, and for each of fid and fd_dinov2 a
                        dict of mu and sigma

All of them divide by n − 1, as np.cov does and as our moments do. None but EDM2
says which network the features are of, or how many they are.

Sources: evaluations/evaluator.py of openai/guided-diffusion; fid_score.py of
mseitzer/pytorch-fid; fid.py of NVlabs/edm; calculate_metrics.py of NVlabs/edm2.
"""

import io
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowdistill.convert import kinds
from flowdistill.convert.numpy_arrays import float_array
from flowdistill.convert.opcodes import LONGEST, interpret
from flowdistill.convert.pickle_machine import Table
from flowdistill.convert.pickles import is_legacy
from flowdistill.files.npz import read_npz
from flowdistill.files.regular import read_regular
from flowdistill.metrics.moments import Moments, checked_moments

LARGEST = 2**29
"""Bytes of the arrays that are read of an .npz, which may be compressed."""
OF_EDM2 = {'fid': 'inception', 'fd_dinov2': 'dinov2.*'}
"""Entry of a .pkl -> the name of its network, a regular expression."""
LENGTHS = {
  2048: 'Inception',
  2023: 'the spatial layer of Inception',
  384: 'DINOv2 ViT-S/14',
  768: 'DINOv2 ViT-B/14',
  1024: 'DINOv2 ViT-L/14',
}
"""Length of features -> of which network they may be, for errors."""
PICKLE = b'\x80'


def read_reference(
  path: pathlib.Path, *, network: str, length: int, spatial: bool = False
) -> Moments:
  """The moments in a file of another system.

  Args:
    path: of an .npz or .pkl, by its content; no code in it is executed.
    network: the name of the feature network, such as 'inception'.
    length: of its features.
    spatial: whether those of the spatial layer are wanted.

  Returns:
    the moments; their count is None where the file does not say it.

  Raises:
    ValueError: naming the file, if there is none, it is of another kind or
      damaged, has no such statistics, they are of another network or of another
      length, or they are no moments (`checked_moments`).
  """
  names = ('mu_s', 'sigma_s') if spatial else ('mu', 'sigma')
  if _is_pickle(path):
    mean, covariance, count = _read_pickle(path, network, spatial)
  else:
    mean, covariance = _read_npz(path, names)
    count = None
  _check_length(path, np.size(mean), network, length)
  try:
    return checked_moments(mean, covariance, count)
  except ValueError as error:
    what = f'{path} has no usable moments ({", ".join(names)})'
    raise ValueError(f'{what}: {error}') from error


def _is_pickle(path: pathlib.Path) -> bool:
  if not os.path.isfile(path):
    return False
  with path.open('rb') as file:
    head = file.read(512)
  return head.startswith(PICKLE) and not is_legacy(head)


def _read_npz(
  path: pathlib.Path, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
  kind = kinds.kind_of(path)
  if kind != kinds.NPZ:
    raise ValueError(
      f'{path} is of the kind {kind}; reference statistics must be an .npz or '
      'the .pkl of EDM2'
    )
  with zipfile.ZipFile(path) as archive:
    sizes = {e.filename.removesuffix('.npy'): e for e in archive.infolist()}
  _check_names(path, list(sizes), names)
  if sum(sizes[name].file_size for name in names) > LARGEST:
    raise ValueError(
      f'{path}: {" and ".join(names)} must have at most {LARGEST} bytes'
    )
  found = read_npz(path, lambda present: names)
  return found[names[0]], found[names[1]]


def _check_names(
  path: pathlib.Path, present: list[str], names: tuple[str, str]
) -> None:
  missing = [name for name in names if name not in present]
  if not missing:
    return
  listed = ', '.join(sorted(present)[:9]) or 'nothing'
  why = f'{path} must have {" and ".join(names)}; it has {listed}'
  if 'arr_0' in present:
    why += '. Its images, arr_0, can be measured as samples are'
  elif missing == list(names) and {'mean', 'covariance'} <= set(present):
    why += ': it is one of our own files'
  elif names[0] == 'mu_s':
    why += ': only files of ADM have statistics of the spatial features'
  raise ValueError(why)


def _read_pickle(
  path: pathlib.Path, network: str, spatial: bool
) -> tuple[np.ndarray, np.ndarray, int | None]:
  """mu, sigma and num_images of a network.

  Raises:
    ValueError: as `read_reference`.
  """
  entries = _entries(path, _interpreted(path))
  present = [key for key in OF_EDM2 if key in entries]
  fitting = [key for key in present if re.fullmatch(OF_EDM2[key], network)]
  if spatial or not fitting:
    wanted = f'the spatial features of {network}' if spatial else network
    raise ValueError(
      f'{path} must have statistics of {wanted}; it has '
      f'{" and ".join(present) or "none of those of EDM2"}'
    )
  inner = _entries(path, entries[fitting[0]])
  arrays = []
  for name in ('mu', 'sigma'):
    try:
      arrays.append(float_array(inner.get(name)))
    except ValueError as error:
      where = f'{fitting[0]}.{name}'
      raise ValueError(f'{path}: {where} {error}') from error
  count = entries.get('num_images')
  return arrays[0], arrays[1], count if type(count) is int else None


def _interpreted(path: pathlib.Path) -> Any:
  if path.stat().st_size > LONGEST:
    raise ValueError(f'{path} must have at most {LONGEST} bytes, as a pickle')
  try:
    return interpret(io.BytesIO(read_regular(path)))
  except kinds.BROKEN as error:
    raise ValueError(
      f'{path} cannot be read as the .pkl of EDM2: {error}'
    ) from error


def _entries(path: pathlib.Path, node: Any) -> Mapping[str, Any]:
  """The entries of a dict whose keys are text."""
  if not isinstance(node, Table):
    raise ValueError(
      f'{path} is not of EDM2: a dict of mu and sigma for each network'
    )
  pairs = [p for p in node.pairs if type(p) is tuple and len(p) == 2]
  entries = {k: value for k, value in pairs if isinstance(k, str)}
  if len(entries) < len(node.pairs):
    raise ValueError(f'{path} has a key twice, or one that is not text')
  return entries


def _check_length(
  path: pathlib.Path, found: int, network: str, length: int
) -> None:
  if found == length:
    return
  of = f' (as of {LENGTHS[found]})' if found in LENGTHS else ''
  raise ValueError(
    f'{path} has features of length {found}{of}, and those of {network} have '
    f'{length}: it is a reference of another network'
  )
