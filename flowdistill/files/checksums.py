"""Size and SHA-256 of each file of a folder, in checksums.json beside them."""

import concurrent.futures
import hashlib
import json
import pathlib
from collections.abc import Iterable

from flowdistill.files.atomic import write_atomically
from flowdistill.files.json_reader import read_json, refuse, signed, typed

CHECKSUMS = 'checksums.json'
THREADS = 4  # that read and hash files


def write_checksums(folder: pathlib.Path, part: str) -> None:
  """Writes the checksums of all files below folder/part into `folder`."""
  files = sorted(path for path in (folder / part).rglob('*') if path.is_file())
  sums = {
    path.relative_to(folder).as_posix(): [path.stat().st_size, digest]
    for path, digest in zip(files, digests(files), strict=True)
  }
  write_atomically(folder / CHECKSUMS, signed(json.dumps(sums, indent=2)))


def check_checksums(folder: pathlib.Path, share: tuple[int, int]) -> None:
  """Compares the files of a folder with its checksums.

  Args:
    folder: with a checksums.json.
    share: (k, n): every n-th file from the k-th on is read, by host k of n; of
      the others only the size is compared.

  Raises:
    OSError: if a file is missing.
    DamagedFileError: naming a file with another content.
  """
  path = folder / CHECKSUMS
  sums = read_json(path)
  if not sums:
    refuse(path, 'must list the files of this folder, and lists none')
  for name, pair in sums.items():
    if len(typed(pair, list, path, repr(name))) != 2:
      refuse(path, f'must have a size and a SHA-256 for {name!r}')
  for name, (size, _) in sums.items():
    if (folder / name).stat().st_size != size:
      refuse(folder / name, f'must have the {size} bytes of {CHECKSUMS}')
  names = sorted(sums)[share[0] :: share[1]]
  files = [folder / name for name in names]
  for name, digest in zip(names, digests(files), strict=True):
    if digest != sums[name][1]:
      refuse(folder / name, f'is damaged: its SHA-256 is not in {CHECKSUMS}')


def digests(files: Iterable[pathlib.Path]) -> list[str]:
  """The SHA-256 of files, in hexadecimal digits."""
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    return list(pool.map(_digest, files))


def _digest(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
