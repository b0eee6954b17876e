"""Paths as people write them: ~ and ~USER are home folders."""

import os
import pathlib


def expand(path: str | os.PathLike[str], name: str) -> pathlib.Path:
  """The path with the home folder in place of ~ or ~USER.

  Args:
    path: as it was given.
    name: of it in errors, with its value, such as "path = '~ann/x'".

  Raises:
    ValueError: if there is no such user, or the home folder is unknown.
  """
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    start = pathlib.Path(path).parts[0]
    why = f'there is no user {start[1:]!r}'
    if start == '~':
      why = 'the home folder is unknown; set HOME'
    raise ValueError(f'{name} must be a path without {start}: {why}') from error
