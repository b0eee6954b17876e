"""The JSON files of a run, and the versions of the software it ran with."""

import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
from collections.abc import Generator, Mapping
from typing import Any

PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'grain',
  'numpy',
  'flowdistill',
)


def jsonable(value: Any) -> Any:
  """Replaces values that JSON cannot represent, in a tree of dicts and lists.

  NaN and the infinities become the strings 'nan', 'inf' and '-inf', which
  Python's `float` reads back. Scalars of NumPy and JAX become numbers, paths
  become strings.
  """
  if isinstance(value, Mapping):
    return {str(k): jsonable(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [jsonable(v) for v in value]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, 'item'):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes `jsonable(value)` atomically: a reader sees all of it or nothing."""
  path = pathlib.Path(path)
  text = json.dumps(jsonable(value), indent=2, allow_nan=False)
  temporary = path.with_name(f'{path.name}.tmp')
  with naming(path):
    temporary.write_text(f'{text}\n', encoding='utf-8')
    os.replace(temporary, path)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Generator[None]:
  """Adds the file to an OSError without one, as 'No space left on device'."""
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = os.fspath(path)
    raise


def environment() -> dict[str, Any]:
  """Versions of Python and of the packages that matter, platform, git.

  Returns:
    `python`, `platform`, `packages` (name -> version, None if not installed)
    and `git`: None outside of a checkout, else `revision` and whether it is
    `dirty`. No device is touched.
  """
  return {
    'python': platform.python_version(),
    'platform': platform.platform(),
    'packages': {name: _version(name) for name in PACKAGES},
    'git': _git_state(pathlib.Path(__file__)),
  }


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _git_state(file: pathlib.Path) -> dict[str, Any] | None:
  """Of the checkout that tracks `file`, not of one that merely contains it."""
  if _git(file.parent, 'ls-files', '--error-unmatch', file.name) is None:
    return None
  revision = _git(file.parent, 'rev-parse', 'HEAD')
  if revision is None:
    return None
  changes = _git(file.parent, 'status', '--porcelain', '--untracked-files=no')
  return {'revision': revision, 'dirty': changes != ''}


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """The output of git, None if git is not installed or fails."""
  try:
    done = subprocess.run(
      ['git', '-C', str(folder), *arguments],
      capture_output=True,
      text=True,
      check=True,
    )
  except (FileNotFoundError, subprocess.CalledProcessError):
    return None
  return done.stdout.strip()
