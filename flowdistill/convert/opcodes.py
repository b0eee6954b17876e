"""Interprets a pickle without executing it, in bounded time and memory.

A pickle is a program: it may call whatever it names. This machine knows the
opcodes and calls nothing. A name becomes a `Named`, a call a `Call` that stores
its arguments, a dict a `Table` of pairs; the names must be those that PyTorch's
own `weights_only` reader knows, records that only hold options, or those of
modules that `modules.py` reads.

Why not `pickle.Unpickler` with a `find_class` of ours: its C code allocates a
memo of the size of the largest index (4.5 GB by 6 bytes), and hashes keys,
which takes the C stack (nested tuples) or exponential time (shared ones). Here
the cost is bounded by construction. No object is hashed or compared, the memo
is a dict with an entry for each opcode that writes to it, `pickletools` takes
no argument that is longer than the rest of the file, and an opcode takes
memory for what it reads or removes from the stack. So the memory is at most
some 100 bytes for each of MOST opcodes, and 4 for each of LONGEST bytes.

Sources: Python's `pickletools`; `torch._weights_only_unpickler` and
`torch._utils` of PyTorch 2.13 for the names.
"""

import pickletools
import re
from collections.abc import Callable
from typing import IO, Any, NamedTuple

LONGEST = 2**26
"""Bytes of a pickle. Tensors are not in it: it takes 200 bytes for each."""
LONGEST_NAME = 100
MOST = 2_000_000
"""Opcodes of a pickle; a tensor takes about 40."""

KNOWN = {
  'torch': r'Size|Tensor|device|[A-Z]\w*(Storage|Tensor)|half|double|cfloat'
  r'|[a-z]{0,5}(bool|int|float|complex|bits)\w*|per_(tensor|channel)_\w+'
  r'|long|short|cdouble|strided|sparse_\w+|contiguous_format|channels_last\w*',
  'torch.storage': r'_?(Untyped|Typed)Storage|_load_from_bytes',
  'torch.nn.parameter': r'Parameter|Buffer',
  'torch.serialization': r'_get_layout',
  'torch.nn.modules.container': r'Module(Dict|List)|Sequential',
  'torch._tensor': r'_rebuild_from_type_v2',
  'torch._utils': r'_rebuild_(tensor(_v2|_v3)?|parameter(_with_state)?|qtensor'
  r'|sparse_tensor|meta_tensor_no_storage|wrapper_subclass'
  r'|device_tensor_from_(numpy|cpu_tensor))',
  'builtins': r'set|frozenset|bytearray|bytes|complex|slice|x?range|list|dict'
  r'|tuple|int|float|str|bool|object',
  'collections': r'OrderedDict|Counter|defaultdict|deque',
  'copyreg': r'_reconstructor',
  '_codecs': r'encode',
  'numpy': r'dtype|ndarray|bool_?|u?int\d+|float\d+|complex\d+',
  'numpy.dtypes': r'\w+DType',
  'numpy.core.multiarray': r'_reconstruct|scalar',
  'numpy._core.multiarray': r'_reconstruct|scalar',
  'numpy.core.numeric': r'_frombuffer',
  'numpy._core.numeric': r'_frombuffer',
  # Snapshots of EDM2 and other networks of NVIDIA.
  'torch_utils.persistence': r'_reconstruct_persistent_obj',
  'dnnlib.util': r'EasyDict',
  # Records of options, as checkpoints have them beside the weights.
  'argparse': r'Namespace',
  'types': r'SimpleNamespace',
  'pathlib': r'(Pure)?(Posix|Windows)?Path',
  'datetime': r'date|datetime|time|timedelta|timezone',
  'ml_collections.config_dict.config_dict': r'(Frozen)?ConfigDict',
  'pytorch_lightning.utilities.parsing': r'AttributeDict',
  'lightning.pytorch.utilities.parsing': r'AttributeDict',
  'lightning.fabric.utilities.data': r'AttributeDict',
}
"""Module -> the names in it that may appear; none is looked up."""
OLD = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}  # Python 2
CONTAINERS = (
  'torch.nn.modules.container.ModuleDict',
  'torch.nn.modules.container.ModuleList',
  'torch.nn.modules.container.Sequential',
)
BUILT = (
  'numpy.dtype',
  'numpy.core.multiarray._reconstruct',
  'numpy._core.multiarray._reconstruct',
  *CONTAINERS,
)
"""Calls whose result gets its content afterwards; see `numpy_arrays.py` and
`modules.py`."""
TABLES = ('OrderedDict', 'Counter', 'defaultdict', 'dict', 'EasyDict')
LOADS = 'torch.storage._load_from_bytes'


class Named(NamedTuple):
  """A name such as 'torch.FloatStorage'."""

  name: str


class Call(NamedTuple):
  """A call that was not made.

  What the pickle sets on its result is lost, but for the names in BUILT, where
  it is appended to `state`.
  """

  name: str
  arguments: tuple[Any, ...]
  state: list[Any] | None = None


class Table(NamedTuple):
  """A dict as a list of (key, value), or of what else it was made from.

  Keys may be anything, and may appear twice.
  """

  pairs: list[Any]


class Machine:
  """The stack and the memo of a pickle.

  Attributes:
    outside: resolves an object that is not in the pickle, such as a storage.
    inside: resolves a storage that is bytes in the pickle, of which it gets
      the bytes and their position in the file; None leaves the call as it is.
    starts: id of such bytes -> (position, bytes).
  """

  def __init__(
    self,
    outside: Callable[[Any], Any],
    inside: Callable[[bytes, int], Any] | None,
  ):
    self.outside, self.inside = outside, inside
    self.starts: dict[int, tuple[int, bytes]] = {}
    self.stack: list[Any] = []
    self.marks: list[list[Any]] = []
    self.memo: dict[int, Any] = {}

  def pop(self) -> Any:
    """Removes the last object."""
    if not self.stack:
      raise ValueError('it takes an object from an empty stack')
    return self.stack.pop()

  def pop_mark(self) -> list[Any]:
    """Removes the objects after the last mark."""
    if not self.marks:
      raise ValueError('it has no mark where one must be')
    items, self.stack = self.stack, self.marks.pop()
    return items

  def last(self, *kinds: type) -> Any:
    """The last object, of one of some kinds."""
    if not self.stack or not isinstance(self.stack[-1], kinds or object):
      raise ValueError('it changes an object of another kind')
    return self.stack[-1]


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
  machine.stack.append(_known(module, name))


def _stack_global(machine: Machine, _: Any) -> None:
  name, module = machine.pop(), machine.pop()
  if not isinstance(name, str) or not isinstance(module, str):
    raise ValueError('it names an object by something else than text')
  machine.stack.append(_known(module, name))


def _known(module: str, name: str) -> Named:
  if len(name) > LONGEST_NAME:  # it may be matched for each opcode
    raise ValueError('it names an object by more than 100 characters')
  module = OLD.get(module, module)
  if not re.fullmatch(KNOWN.get(module, '(?!)'), name):
    raise ValueError(
      f'it names {module[:LONGEST_NAME]}.{name}, which may be code, and is not '
      'executed; where you trust the file, save its state dict alone by PyTorch'
    )
  return Named(f'{module}.{name}')


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
