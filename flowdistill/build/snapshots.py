"""Snapshots, which say how their networks were made, and copies of them."""

import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from flowdistill.convert.arrays import read_chosen
from flowdistill.convert.converter import Converter
from flowdistill.convert.kinds import SNAPSHOT, kind_of
from flowdistill.convert.modules import Made
from flowdistill.convert.rules import Arrays
from flowdistill.convert.snapshots import patch


def check_made(
  rules: Converter,
  made: Mapping[str, Made],
  prefixes: Iterable[str],
  network: Mapping[str, Any],
) -> None:
  """Refuses a network that is not the one in a snapshot.

  Args:
    rules: of the network.
    made: how the modules of a file were made, by their keys.
    prefixes: of the names of the arrays in it.
    network: our name and options.

  Raises:
    ValueError: naming the options that must have another value, and the value.
  """
  for key in {prefix.partition('.')[0] for prefix in prefixes} & made.keys():
    if rules.changes is None:
      raise ValueError(
        f'it is a snapshot of {made[key].name}; of networks of the name '
        f'{network["name"]!r} no snapshots are read'
      )
    wrong = [
      f'network.{option} = {network[option]!r} must be {value!r}'
      for option, value in rules.changes(made[key], network).items()
    ]
    if wrong:
      raise ValueError(f'{", ".join(wrong)}, as in the snapshot')


def write_snapshot(
  like: pathlib.Path,
  to: pathlib.Path,
  rules: Converter,
  network: Mapping[str, Any],
  theirs: Arrays,
) -> None:
  """Writes a copy of a snapshot that has other weights, in its own types.

  Args:
    like: the snapshot.
    to: the copy, which is overwritten; after an error there is none.
    rules: of the network of the weights.
    network: its name and options.
    theirs: the weights, by their names in PyTorch.

  Raises:
    ValueError: naming the snapshot, if it cannot be read, or is of another
      network.
  """
  if kind_of(like) != SNAPSHOT:
    raise ValueError(f'{like} must be a snapshot, which is a pickle')
  names, made = list[str](), dict[str, Made]()

  def choose(present: list[str]) -> list[str]:
    names.extend(present)
    return []

  read_chosen(like, choose, made.update)
  try:
    found = rules.naming.find(names)
    check_made(rules, made, found.prefixes['params'], network)
    theirs = {n: x for n, x in theirs.items() if rules.naming.bare(n)}
    if other := found.params.keys() ^ theirs.keys():
      raise ValueError(
        f'{min(other)} is not an array of both the snapshot and the network'
      )
    shutil.copyfile(like, to)
    with to.open('r+b') as file:
      patch(file, {found.params[name]: x for name, x in theirs.items()})
  except (ValueError, OSError) as error:
    to.unlink(missing_ok=True)
    if isinstance(error, OSError):
      raise
    raise ValueError(f'{like}: {error}') from error
