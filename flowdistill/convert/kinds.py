"""What a file is, by its first bytes and not by its name."""

import lzma
import pathlib
import re
import struct
import tokenize
import zipfile
import zlib

from flowdistill.convert.pickles import is_legacy

SAFETENSORS, NPZ = 'safetensors', 'npz'
ZIPPED, LEGACY = 'PyTorch', 'PyTorch before 1.6'
SNAPSHOT = 'a bare pickle'
FLAX = 'msgpack of Flax'
TREE = rb'(?:[\x81-\x8f]|\xde..|\xdf....)[\xa0-\xbf\xd9]'
"""A msgpack of Flax begins with a dict whose first key is text."""
READ = (
  '.safetensors, .npz, PyTorch files such as .pth and .pt, .pkl of EDM and '
  'EDM2, and msgpack of Flax'
)
LFS = 'a git-LFS pointer in place of the file: run `git lfs pull`'
PAGE = 'a web page, not weights: download the file itself'
TAR = (
  'a tar archive; one of PyTorch 0.1 must be saved again by a newer PyTorch, '
  'any other must be unpacked'
)
BROKEN = (
  ArithmeticError,
  EOFError,
  LookupError,
  MemoryError,
  OSError,
  RuntimeError,
  SyntaxError,
  TypeError,
  ValueError,
  lzma.LZMAError,
  struct.error,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
)
"""What a damaged file may raise. A header may claim a size that exceeds the
memory; an entry of an archive may be encrypted, or compressed by a method that
is not installed."""
OTHERS = {
  rb'version https://git-lfs': LFS,
  rb'\s*(\xef\xbb\xbf)?\s*<': PAGE,
  rb'\x1f\x8b': 'compressed by gzip: decompress it',
  rb'BZh': 'compressed by bzip2: decompress it',
  rb'\xfd7zXZ': 'compressed by xz: decompress it',
  rb'\x28\xb5\x2f\xfd': 'compressed by zstd: decompress it',
  rb'7z\xbc\xaf': 'a 7z archive: unpack it',
  rb'Rar!': 'a RAR archive: unpack it',
  rb'\x89HDF': 'an HDF5 file; save its arrays as .npz',
  rb'\x93NUMPY': 'an .npy file, one array without a name; save an .npz',
  rb'GGUF': 'a GGUF file, which is quantised; take the original weights',
  rb'(?s).{257}ustar': TAR,
  rb'\0+$': 'all zeros: its download was not finished',
  rb'\s*[\[{]': 'text, such as JSON, not weights',
}
"""How a file begins -> what it is."""


def kind_of(path: pathlib.Path) -> str:
  """One of SAFETENSORS, NPZ, ZIPPED, LEGACY, SNAPSHOT and FLAX.

  Raises:
    ValueError: if there is no such file, or it is something else; it says what.
  """
  if path.is_dir():
    raise ValueError(f'{path} is a folder; name the file in it')
  if not path.exists():
    raise ValueError(f'there is no file {path}')
  if not path.is_file():  # to open a pipe may wait for ever
    raise ValueError(f'{path} is not a regular file')
  try:
    with path.open('rb') as file:
      head = file.read(512)
  except OSError as error:
    raise ValueError(f'{path} cannot be read: {error.strerror}') from error
  if not head:
    raise ValueError(f'{path} is empty: it has 0 bytes')
  return _kind(path, head)


def _kind(path: pathlib.Path, head: bytes) -> str:
  if head.startswith(b'PK'):
    return _archive(path)
  if head[8:9] == b'{':
    return SAFETENSORS
  if head.startswith(b'\x80'):
    return LEGACY if is_legacy(head) else SNAPSHOT
  if re.match(TREE, head, re.DOTALL):
    return FLAX
  for begins, what in OTHERS.items():
    if re.match(begins, head):
      raise ValueError(f'{path} is {what}')
  raise ValueError(
    f'{path} must be one of {READ}; it is none of them: it begins with '
    f'{head[:8]!r}'
  )


def _archive(path: pathlib.Path) -> str:
  """The kind of a zip archive, by its entries."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except BROKEN as error:
    raise ValueError(
      f'{path} is a zip archive that is cut short or damaged: {error}'
    ) from error
  if any(f'/{name}'.endswith('/data.pkl') for name in names):
    return ZIPPED
  if names and all(name.endswith('.npy') for name in names):
    return NPZ
  raise ValueError(
    f'{path} is a zip archive without weights: it has neither data.pkl, as of '
    'torch.save, nor only .npy files'
  )
