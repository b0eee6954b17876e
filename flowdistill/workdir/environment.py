"""The software that a run was made with."""

import importlib.metadata
import pathlib
import platform
import subprocess
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


def environment() -> dict[str, Any]:
  """Versions of Python and packages, platform, git revision; uses no device.

  A package that is not installed is None, and so is git outside of a checkout.
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
  """The state of the checkout that tracks `file`, not of one around it."""
  if _git(file.parent, 'ls-files', '--error-unmatch', file.name) is None:
    return None
  revision = _git(file.parent, 'rev-parse', 'HEAD')
  if revision is None:
    return None
  changes = _git(file.parent, 'status', '--porcelain', '--untracked-files=no')
  return {'revision': revision, 'dirty': changes != ''}


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """The output of git, or None if it is missing or fails."""
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
