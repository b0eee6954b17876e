"""Interprets a pickle without executing it, in bounded time and memory.

A pickle is a program: it may call whatever it names. This machine knows the
opcodes and calls nothing. A name becomes a `Named`, a call a `Call` that stores
its arguments, a dict a `Table` of pairs; the names must be those that PyTorch's
own `weights_only` reader knows, records that only hold options, or those of
modules that `modules.py` reads (`pickle_names.py`).

Why not `pickle.Unpickler` with a `find_class` of ours: its C code allocates a
memo of the size of the largest index (4.5 GB by 6 bytes), and hashes keys,
which takes the C stack (nested tuples) or exponential time (shared ones). Here
the cost is bounded by construction. No object is hashed or compared, the memo
is a dict with an entry for each opcode that writes to it, `pickletools` takes
no argument that is longer than the rest of the file, and an opcode takes
memory for what it reads or removes from the stack. So the memory is at most
some 100 bytes for each of MOST opcodes, and 4 for each of LONGEST bytes.

Source: Python's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any

from flowdistill.convert.pickle_machine import Call, Machine, Named, Table
from flowdistill.convert.pickle_names import BUILT, TABLES, known

LONGEST = 2**26
"""Bytes of a pickle. Tensors are not in it: it takes 200 bytes for each."""
MOST = 2_000_000
"""Opcodes of a pickle; a tensor takes about 40."""

LOADS = 'torch.storage._load_from_bytes'


def nothing_outside(key: Any) -> Any:
  """Raises ValueError: most pickles refer to no object outside of them."""
  del key
  raise ValueError('it refers to an object that is not in its pickle')


def interpret(
  file: IO[bytes],
  outside: Callable[[Any], Any] = nothing_outside,
  inside: Callable[[bytes, int], Any] | None = None,
) -> Any:
  """The object of the pickle at the position of a file, which is moved past it.

  Args:
    file: in memory, so that a length in it cannot make it allocate more.
    outside: persistent id -> the object that it stands for.
    inside: see `Machine`.

  Returns:
    numbers, strings, bytes, None, lists (also for sets) and tuples of such,
    `Named`, `Call` and `Table`, and what both functions return. A list or a
    table may contain itself.

  Raises:
    ValueError: if it is damaged, too long, or has a name that is not in KNOWN.
  """
  machine, text = Machine(outside, inside), 0
  for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
    if number >= MOST:
      raise ValueError(f'its pickle has more than {MOST} opcodes')
    text += len(argument) if isinstance(argument, str) else 0
    if text > LONGEST:  # of a snapshot, whose storages are in the pickle too
      raise ValueError(f'its pickle has more than {LONGEST} letters')
    if opcode.name == 'STOP':
      break
    if opcode.name not in OPCODES:
      raise ValueError(f'its pickle has the opcode {opcode.name}')
    if inside and isinstance(argument, bytes):
      start = file.tell() - len(argument)
      machine.starts[id(argument)] = start, argument
    OPCODES[opcode.name](machine, argument)
  return machine.pop()


def _push(machine: Machine, argument: Any) -> None:
  machine.stack.append(argument)


def _constant(value: Any) -> Callable[[Machine, Any], None]:
  return lambda machine, _: machine.stack.append(value)


def _put(machine: Machine, argument: Any) -> None:
  index = len(machine.memo) if argument is None else argument
  machine.memo[index] = machine.last()


def _get(machine: Machine, argument: Any) -> None:
  if argument not in machine.memo:
    raise ValueError(f'it refers to object {argument}, which does not exist')
  machine.stack.append(machine.memo[argument])


def _mark(machine: Machine, _: Any) -> None:
  machine.marks.append(machine.stack)
  machine.stack = []


def _marked(make: Callable[[list[Any]], Any]) -> Callable[[Machine, Any], None]:
  """Pushes what is made of the objects after the last mark."""

  def run(machine: Machine, _: Any) -> None:
    items = machine.pop_mark()
    machine.stack.append(make(items))

  return run


def _tuple_of(count: int) -> Callable[[Machine, Any], None]:
  def run(machine: Machine, _: Any) -> None:
    items = [machine.pop() for _ in range(count)]
    machine.stack.append(tuple(reversed(items)))

  return run


def _append(machine: Machine, _: Any) -> None:
  item = machine.pop()
  _extend(machine, [item])


def _extend(machine: Machine, items: list[Any]) -> None:
  target = machine.last(list, Call)
  if isinstance(target, list):
    target.extend(items)


def _set_item(machine: Machine, _: Any) -> None:
  value, key = machine.pop(), machine.pop()
  _update(machine, [key, value])


def _update(machine: Machine, items: list[Any]) -> None:
  target = machine.last(Table, Call)
  if isinstance(target, Table):
    target.pairs.extend(_pairs(items))


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
  return list(zip(items[::2], items[1::2], strict=True))


def _global(machine: Machine, argument: str) -> None:
  module, _, name = argument.partition(' ')
  machine.stack.append(known(module, name))


def _stack_global(machine: Machine, _: Any) -> None:
  name, module = machine.pop(), machine.pop()
  if not isinstance(name, str) or not isinstance(module, str):
    raise ValueError('it names an object by something else than text')
  machine.stack.append(known(module, name))


def _reduce(machine: Machine, _: Any) -> None:
  arguments, function = machine.pop(), machine.pop()
  if not isinstance(function, Named) or type(arguments) is not tuple:
    raise ValueError('it calls what is not a function')
  if function.name == LOADS and machine.inside:
    machine.stack.append(_loaded(machine, machine.inside, arguments))
  else:
    machine.stack.append(_called(function.name, arguments))


def _new_with_keywords(machine: Machine, _: Any) -> None:
  machine.pop()
  _reduce(machine, None)


def _loaded(
  machine: Machine,
  inside: Callable[[bytes, int], Any],
  arguments: tuple[Any, ...],
) -> Any:
  """The storage that bytes in the pickle are."""
  match arguments:
    case (bytes() as data,) if id(data) in machine.starts:
      return inside(data, machine.starts[id(data)][0])
  raise ValueError(
    'it has a storage that is not bytes; save it by protocol 3 of pickle, or a '
    'later one'
  )


def _called(name: str, arguments: tuple[Any, ...]) -> Any:
  """The record of a call; of a dict, its pairs."""
  if name in BUILT:
    return Call(name, arguments, [])
  if name.rpartition('.')[2] not in TABLES:
    return Call(name, arguments)
  # The pairs are shared: a copy for each call would not be bounded.
  match arguments:
    case (Table(pairs), *_) | (_, Table(pairs)) | (list() as pairs,):
      return Table(pairs)
  return Table([])


def _build(machine: Machine, _: Any) -> None:
  state = machine.pop()  # such as _metadata of a state dict
  built = machine.last(Table, Call)
  if isinstance(built, Call) and built.state is not None:
    built.state.append(state)


def _outside(machine: Machine, _: Any) -> None:
  machine.stack.append(machine.outside(machine.pop()))


def _pop(machine: Machine, _: Any) -> None:
  if machine.stack:
    machine.pop()
  else:
    machine.pop_mark()


OPCODES: dict[str, Callable[[Machine, Any], None]] = {
  'PROTO': lambda machine, _: None,
  'FRAME': lambda machine, _: None,
  **dict.fromkeys(
    (
      *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4'),
      *('FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING'),
      *('UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
      *('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
    ),
    _push,
  ),
  'NONE': _constant(None),
  'NEWTRUE': _constant(True),
  'NEWFALSE': _constant(False),
  **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'), _put),
  **dict.fromkeys(('GET', 'BINGET', 'LONG_BINGET'), _get),
  'MARK': _mark,
  'POP': _pop,
  'POP_MARK': lambda machine, _: machine.pop_mark().clear(),
  'DUP': lambda machine, _: machine.stack.append(machine.last()),
  'EMPTY_TUPLE': _constant(()),
  'TUPLE1': _tuple_of(1),
  'TUPLE2': _tuple_of(2),
  'TUPLE3': _tuple_of(3),
  'TUPLE': _marked(tuple),
  'EMPTY_LIST': lambda machine, _: machine.stack.append([]),
  'EMPTY_SET': lambda machine, _: machine.stack.append([]),
  'LIST': _marked(list),
  'FROZENSET': _marked(tuple),
  'APPEND': _append,
  'APPENDS': lambda machine, _: _extend(machine, machine.pop_mark()),
  'ADDITEMS': lambda machine, _: _extend(machine, machine.pop_mark()),
  'EMPTY_DICT': lambda machine, _: machine.stack.append(Table([])),
  'DICT': _marked(lambda items: Table(_pairs(items))),
  'SETITEM': _set_item,
  'SETITEMS': lambda machine, _: _update(machine, machine.pop_mark()),
  'GLOBAL': _global,
  'STACK_GLOBAL': _stack_global,
  'REDUCE': _reduce,
  'NEWOBJ': _reduce,
  'NEWOBJ_EX': _new_with_keywords,
  'BUILD': _build,
  'BINPERSID': _outside,
}
"""Opcode -> f(machine, argument). Those that are not here are refused."""
