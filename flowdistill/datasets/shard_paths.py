"""Where tar shards lie: files, URLs, or what commands print.

A path is one shard, many by braces (`shard-{000000..000010}.tar`), or a local
folder of shards.
"""

import itertools
import pathlib
import re
from collections.abc import Sequence

from flowdistill.files.paths import expand

REMOTE = ('http://', 'https://', 'gs://')
PIPE = 'pipe:'
MOST = 1_000_000  # shards
RANGE = re.compile(r'\{(-?\d+)\.\.(-?\d+)(?:\.\.-?\d+)?\}')
PACKED = ('.gz', '.tgz', '.bz2', '.xz', '.zst', '.zip')


def shard_paths(path: str, *, commands: bool = False) -> tuple[str, ...]:
  """The shards of a path, in its order.

  Args:
    path: see above.
    commands: whether `pipe:COMMAND` may be run.

  Raises:
    ValueError: naming what is not there, is there twice, is compressed, or is a
      command without consent.
  """
  if not path:
    raise ValueError(
      "path = '' must name tar shards, such as 'a-{000..123}.tar'"
    )
  found = [each for word in _braces(path) for each in _shards(word, path)]
  if not commands and any(shard.startswith(PIPE) for shard in found):
    raise ValueError(
      f'path = {path!r} would run a command; set commands = True if you trust '
      'it'
    )
  if twice := [each for each, n in _counted(found) if n > 1]:
    raise ValueError(f'path = {path!r} has {twice[0]!r} twice')
  for shard in found:
    if not shard.startswith(PIPE) and shard.lower().endswith(PACKED):
      raise ValueError(
        f'path = {path!r}: {shard!r} must be an uncompressed .tar; pictures '
        'are compressed already, and no sample is found without all before it'
      )
  return tuple(found)


def is_local(shard: str) -> bool:
  """Whether a shard is a file of this machine."""
  return not shard.startswith((*REMOTE, PIPE))


def title_of(shard: str) -> str:
  """The name of a shard for messages: the last part of its path."""
  return shard if shard.startswith(PIPE) else shard.rpartition('/')[2]


def _braces(path: str) -> Sequence[str]:
  from braceexpand import braceexpand

  # A range becomes a list at once.
  longest = max(
    (abs(int(b) - int(a)) for a, b in RANGE.findall(path)), default=0
  )
  try:
    words = braceexpand(path) if longest < MOST else ()
    found = [*itertools.islice(words, MOST + 1)]
  except ValueError as error:
    raise ValueError(f'path = {path!r} has unbalanced braces') from error
  if not 0 < len(found) <= MOST:
    raise ValueError(f'path = {path!r} must name at most {MOST:,} shards')
  return found


def _shards(word: str, path: str) -> list[str]:
  """The shards of a path without braces."""
  if not is_local(word):
    return [word]
  if '://' in word:
    raise ValueError(
      f'path = {path!r} must be a file, or begin with {", ".join(REMOTE)} or '
      f'{PIPE}'
    )
  where = expand(word, f'path = {path!r}').absolute()
  if where.is_dir():
    return _of_folder(where, path)
  if not where.exists():
    raise ValueError(f'path = {path!r}: there is no shard {str(where)!r}')
  return [str(where)]


def _of_folder(folder: pathlib.Path, path: str) -> list[str]:
  if found := sorted(map(str, folder.glob('*.tar'))):
    return found
  raise ValueError(f'path = {path!r} has no .tar in {str(folder)!r}')


def _counted(words: Sequence[str]) -> list[tuple[str, int]]:
  counts = dict.fromkeys(words, 0)
  for word in words:
    counts[word] += 1
  return [*counts.items()]
