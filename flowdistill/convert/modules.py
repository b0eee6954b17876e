"""Whole modules of PyTorch in an interpreted pickle.

A container such as ModuleDict is an object with its state. An object of a
persistent class (NVIDIA's `torch_utils.persistence`, as in EDM2, EDM and
StyleGAN) is a call with a dict: the source code of its Python module, which is
ignored, the name of the class, and the state, in which are the arguments that
it was made with. The state has dicts of parameters, buffers and modules, whose
keys make names as in a state dict.

Sources: torch_utils/persistence.py of https://github.com/NVlabs/edm2;
`torch.nn.Module` of PyTorch 2.13.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from flowdistill.convert.pickle_machine import Call, Table
from flowdistill.convert.pickle_names import CONTAINERS

PERSISTENT = 'torch_utils.persistence._reconstruct_persistent_obj'
PARTS = ('_parameters', '_buffers', '_modules')
ENTRIES, MODULES = 100, 100
"""Entries of a list that is read, and modules at the top of a file."""
LARGEST = 10_000  # entries of a dict of a module at the top


class Made(NamedTuple):
  """How an object of a persistent class was made.

  Attributes:
    name: of the class.
    options: keyword arguments that are text, numbers, None or lists of such;
      None if they were not recorded.
  """

  name: str
  options: Mapping[str, Any] | None


def opened(node: Any) -> tuple[Table, int] | None:
  """(what a module has by its names, the entries that were looked at).

  None if it is no module. An object without arrays, such as a loss, has none.
  """
  tables = _tables(node)
  if not tables:
    return None
  parts = [_entry(tables[-1], name) for name in PARTS]
  parts = [part for part in parts if isinstance(part, Table)]
  scanned = sum(len(table.pairs) for table in (*tables, *parts))
  return Table([pair for part in parts for pair in part.pairs]), scanned


def made(tree: Any) -> dict[str, Made]:
  """The objects of persistent classes in a dict, by their keys; '' for one.

  Raises:
    ValueError: if there are too many, or one is too large, to be looked at.
  """
  pairs = tree.pairs if isinstance(tree, Table) else [('', tree)]
  found = dict[str, Made]()
  for pair in pairs:
    match pair:
      case (str(key), Call(name, (Table() as meta,))) if name == PERSISTENT:
        if len(found) == MODULES or _size(meta) > LARGEST:
          raise ValueError(
            f'it has more than {MODULES} modules, or one with a dict of more '
            f'than {LARGEST} entries'
          )
        found[key] = _made(meta)
  return found


def _size(meta: Table) -> int:
  """Entries of the largest dict that `_made` looks at."""
  if len(meta.pairs) > LARGEST:
    return len(meta.pairs)
  state = _entry(meta, 'state')
  return len(state.pairs) if isinstance(state, Table) else 0


def _made(meta: Table) -> Made:
  name, state = _entry(meta, 'class_name'), _entry(meta, 'state')
  given = _entry(state, '_init_kwargs') if isinstance(state, Table) else None
  if not isinstance(given, Table):
    return Made(str(name)[:ENTRIES], None)
  options = {}
  for pair in given.pairs[:ENTRIES]:
    match pair:
      case (str(key), value) if _is_plain(value):
        options[key] = value
  return Made(str(name)[:ENTRIES], options)


def _is_plain(value: Any) -> bool:
  """Whether it is text, a number, None or a list of such."""
  plain = str | int | float | None
  if type(value) not in (list, tuple):
    return isinstance(value, plain)
  return len(value) <= ENTRIES and all(isinstance(x, plain) for x in value)


def _tables(node: Any) -> list[Table]:
  """The dicts of a module, of which the last is its state; [] for others."""
  match node:
    case Call(name, (Table() as meta,)) if name == PERSISTENT:
      state = _entry(meta, 'state')
      return [meta, state if isinstance(state, Table) else Table([])]
    case Call(name, _, [Table() as state]) if name in CONTAINERS:
      return [state]
  return []


def _entry(table: Table, key: str) -> Any:
  """The last value of a key, None if there is none."""

  def later(found: Any, pair: Any) -> Any:
    is_it = len(pair) == 2 and isinstance(pair[0], str) and pair[0] == key
    return pair[1] if is_it else found

  pairs = (p for p in table.pairs if type(p) in (list, tuple))
  return functools.reduce(later, pairs, None)
