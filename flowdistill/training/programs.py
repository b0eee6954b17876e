"""Compiled programs on disk, which a job that starts again need not compile."""

import glob
import os
import pathlib
import re
import sys
import warnings
from typing import Any

import jax

from flowdistill.files.paths import expand

FOLDER = 'jax_compilation_cache_dir'
# What JAX warns of, before it compiles the program and goes on.
TROUBLE = (
  r'Error (?P<what>reading|writing) persistent compilation cache entry for '
  r"'(?P<name>[^']*)': (?P<why>.*)"
)


def keep_programs() -> None:
  """Enables the compilation cache on disk, unless JAX is configured.

  A damaged program in it is removed with a warning, so that the one that is
  compiled in its place is kept; JAX would compile it at every start.
  """
  if jax.config.values[FOLDER] is None:
    home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    try:
      folder = expand(home, 'XDG_CACHE_HOME') / 'flowdistill' / 'programs'
    except ValueError:  # there is no home
      return
    jax.config.update(FOLDER, str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
  warnings.filterwarnings('always', TROUBLE)
  show, said = warnings.showwarning, set[str]()

  def shown(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    if found := re.match(TROUBLE, str(message), re.DOTALL):
      text = mended(**found.groupdict())
      if text not in said:
        print(f'warning: {text}', file=sys.stderr, flush=True)
      said.add(text)
    else:
      show(message, *args, **kwargs)

  warnings.showwarning = shown


def mended(what: str, name: str, why: str) -> str:
  """Removes the kept programs of a function; returns what is to be said.

  Args:
    what: 'reading' or 'writing' one of them has failed.
    name: of the function, as in the names of the files.
    why: it failed.
  """
  folder = pathlib.Path(jax.config.values[FOLDER])
  removed = False
  try:
    for file in folder.glob(f'{glob.escape(name)}-*-cache'):
      file.unlink()
      removed = True
  except OSError as error:
    why = f'{error}'
  if removed and what == 'reading':
    return (
      f'a compiled program of {name} in {folder} was damaged: it is removed, '
      'and compiled again'
    )
  return (
    f'compiled programs cannot be kept in {folder}: {" ".join(why.split())}'
  )
