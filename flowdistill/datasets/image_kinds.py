"""What a file with images is, by its first bytes and not by its name."""

import pathlib
import zipfile

from flowdistill.datasets.formats import HEAD, begins_as_picture
from flowdistill.datasets.listing import COMPRESSED, DAMAGED
from flowdistill.files import npz
from flowdistill.files.regular import open_regular

FILES, NPZ, NPY = 'files', 'npz', 'npy'
TAR, USTAR = slice(257, 262), b'ustar'
PICKLE = b'\x80'
WHAT = 'a folder of pictures, a .zip or .tar of them, an .npz or an .npy'


def kind_of(where: pathlib.Path) -> str:
  """FILES, NPZ or NPY, by the content of a file.

  Raises:
    ValueError: if it is of no kind that is read; it says what it is.
  """
  head, ending = _head(where), where.suffix.lower()
  if head.startswith(npz.NPY):
    return NPY
  if head.startswith(npz.NPZ):
    return _kind_of_zip(where, ending)
  if head[TAR] == USTAR or ending == '.tar':
    if ending != '.tar':
      raise ValueError('it is a .tar: rename it so that its name ends in .tar')
    return FILES
  if head.startswith(tuple(COMPRESSED)):
    return FILES  # which says how it is unpacked
  raise ValueError(f'it must be {WHAT}; it is {_described(head)}')


def _kind_of_zip(where: pathlib.Path, ending: str) -> str:
  """An archive of arrays is an .npz, whatever its name."""
  try:
    with zipfile.ZipFile(where) as archive:
      names = archive.namelist()
  except DAMAGED as error:
    raise ValueError(f'it is a damaged .npz or .zip: {error}') from error
  arrays = [name for name in names if name.endswith('.npy')]
  if arrays and (ending == '.npz' or len(arrays) == len(names)):
    return NPZ
  if ending == '.zip':
    return FILES
  inside = f'it has {names[0]!r} in it' if names else 'it is empty'
  raise ValueError(
    f'it is a zip archive without arrays, {inside}: if it is one of pictures, '
    'rename it so that its name ends in .zip'
  )


def _head(where: pathlib.Path) -> bytes:
  try:
    with open_regular(where) as file:
      return file.read(TAR.stop)
  except FileNotFoundError as error:
    raise ValueError('it does not exist') from error
  except OSError as error:
    raise ValueError(f'it cannot be read: {error.strerror}') from error


def _described(head: bytes) -> str:
  """What a file is that begins so."""
  if not head:
    return 'an empty file'
  if begins_as_picture(head[:HEAD]):
    return 'a single picture: name the folder of all of them'
  if head.startswith(PICKLE):
    return (
      'a pickle, which is not executed; if it has the statistics of EDM2, '
      'others can be measured against it'
    )
  return f'another file, which begins with {head[:8]!r}'
