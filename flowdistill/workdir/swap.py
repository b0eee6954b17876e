"""A folder of files that one call has written, and that the next one replaces.

The new files are written beside it, into .NAME.XXXXXXXX.new. When all are
there, the old folder is renamed to .NAME.XXXXXXXX.old, the new one takes its
name, and the old files are removed: a reader sees those of one call, and a call
that is killed leaves what was there. The next one tidies up.

`generated.json` in the folder says which files are ours. No other is removed.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from flowdistill.config.bind import ConfigError
from flowdistill.files.generated import MARK, ours
from flowdistill.training.json_files import write_json
from flowdistill.workdir.folders import (
  CAPTIONS,
  CHECKPOINTS,
  CONFIG,
  FAILURE,
  LATENTS,
  PAIRS,
)

PART = r'\.[0-9a-f]{8}\.(tmp|new|old)'  # the end of the name of a folder beside
KEPT = (CHECKPOINTS, PAIRS, LATENTS, CAPTIONS, FAILURE)
ATTEMPTS = 100  # to swap, while others swap the same folder


@contextlib.contextmanager
def swapped(place: pathlib.Path, option: str) -> Generator[pathlib.Path]:
  """Yields an empty folder, which becomes `place` unless an exception leaves.

  Call `mark` in it. On the way its parents are made.

  Args:
    place: of the folder.
    option: that named the folder, for errors.

  Raises:
    ConfigError: see `check_ours`.
    OSError: if it cannot be written.
  """
  place = place.resolve()
  check_parents(place, option)
  place.parent.mkdir(parents=True, exist_ok=True)
  with locked(place.parent):  # so that no other call swaps it meanwhile
    check_ours(place, option)
    tidy(place)
  empty, fresh = beside(place, 'tmp'), beside(place, 'new')
  try:
    empty.mkdir()
  except OSError as error:
    error.filename = str(place)
    raise
  try:
    with locked(empty):
      empty.rename(fresh)  # once it is locked, for others to see
      yield fresh
      with locked(place.parent):
        exchange(fresh, place)
        tidy(place)
  except FileNotFoundError as error:
    if fresh.is_dir() or place.is_dir():
      raise
    why = 'a folder above it was removed or renamed meanwhile'
    raise FileNotFoundError(errno.ENOENT, why, str(place)) from error
  finally:
    for folder in (empty, fresh):
      shutil.rmtree(folder, ignore_errors=True)


def mark(
  folder: pathlib.Path, files: Mapping[str, int], about: Mapping[str, Any]
) -> None:
  """Writes which files of a folder are ours.

  Args:
    folder: that has them.
    files: 'samples.npz' -> 1, or '.png' -> 30 for 00000.png to 00029.png.
    about: how they were made.
  """
  write_json(folder / MARK, {'files': files, **about})


def is_ours(path: pathlib.Path, files: Mapping[str, int]) -> bool:
  """Whether a path is a file in `files`, or the folder of one checkpoint."""
  if path.is_dir() and not path.is_symlink():
    return re.fullmatch(r'\d{8,}', path.name) is not None and bool(ours(path))
  numbered = re.fullmatch(r'(\d{5,})(\.\w+)', path.name, re.ASCII)
  return path.name in files or (
    numbered is not None and int(numbered[1]) < files.get(numbered[2], 0)
  )


def check_parents(place: pathlib.Path, option: str) -> None:
  """Refuses a folder that is, or is in, something else.

  Raises:
    ConfigError: if there is a file of that name; or for the checkpoints, the
      pairs or the failed step of a stage, where a job would take the files for
      its own.
  """
  for path in (place, *place.parents):
    if os.path.lexists(path) and not path.is_dir():
      raise ConfigError(
        f'{option}={place}: {path} must be a folder, and is none'
      )
    of_run = path.name in KEPT and (path.parent / CONFIG).is_file()
    if of_run and not (path / CONFIG).is_file():  # else it is a stage
      raise ConfigError(
        f'{option}={place} must not be in {path}, which belongs to a run: take '
        f'another folder, such as {path.parent / "generated"}'
      )


def check_ours(place: pathlib.Path, option: str) -> None:
  """Refuses a folder with a file that is not ours.

  Raises:
    ConfigError: naming it; also for a mount point, which cannot be renamed.
  """
  if not place.exists():
    return
  if place.is_mount():
    raise ConfigError(
      f'{option}={place} must be no mount point, which cannot be replaced as a '
      f'whole: take a folder in it, such as {place / "samples"}'
    )
  files = ours(place)
  for path in entries(place):
    if not is_ours(path, files):
      raise ConfigError(
        f'{option}={place} must be a new or an empty folder, or one that this '
        f'job has written: there is {path.name} in it, which this job has not '
        'written. Take another folder, or move that away'
      )


def entries(place: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields what is in a folder, except what is about to be swapped there."""
  with os.scandir(place) as found:
    for entry in found:
      if not re.fullmatch(rf'\..+{PART}', entry.name):
        yield place / entry.name


def beside(place: pathlib.Path, state: str) -> pathlib.Path:
  """A path that does not exist yet."""
  return place.with_name(f'.{place.name}.{secrets.token_hex(4)}.{state}')


def exchange(fresh: pathlib.Path, place: pathlib.Path) -> None:
  """Renames the fresh folder to `place`, after what is there."""
  for _ in range(ATTEMPTS):
    old = beside(place, 'old')
    with contextlib.suppress(FileNotFoundError):
      place.rename(old)
    try:
      fresh.rename(place)
      return
    except OSError as error:
      if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
        if old.is_dir() and not place.exists():
          old.rename(place)
        raise
  raise OSError(errno.EBUSY, 'other processes replace it', str(place))


def tidy(place: pathlib.Path) -> None:
  """Ends what other calls have left, unless they are still running."""
  for path in list(place.parent.iterdir()):
    left = re.fullmatch(rf'\.{re.escape(place.name)}{PART}', path.name)
    if left is None:
      continue
    with contextlib.suppress(OSError):
      if left[1] == 'new':
        with locked(path, wait=False):
          shutil.rmtree(path)
      elif left[1] == 'old' and place.exists():
        remove(path, place)
      elif left[1] == 'old':
        path.rename(place)


def remove(old: pathlib.Path, place: pathlib.Path) -> None:
  """Removes our files of an old folder; all others go to the new one."""
  files = ours(old)
  for path in list(entries(old)):
    if path.is_dir() or not is_ours(path, files):
      if not os.path.lexists(place / path.name):
        path.rename(place / path.name)
    elif path.name != MARK:
      path.unlink(missing_ok=True)
  if all(path.name == MARK for path in entries(old)):
    (old / MARK).unlink(missing_ok=True)
    old.rmdir()


@contextlib.contextmanager
def locked(folder: pathlib.Path, *, wait: bool = True) -> Generator[None]:
  """Marks a folder as being written; a lock ends with its process.

  Raises:
    OSError: without `wait`, if another process writes it.
  """
  number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
  try:
    with contextlib.suppress(OSError) if wait else contextlib.nullcontext():
      fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    yield
  finally:
    os.close(number)
