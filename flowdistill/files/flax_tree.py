"""Files of `flax.training.checkpoints` and `flax.serialization`, in msgpack.

A file is a tree of dicts with arrays. Orbax, which Flax uses since 0.7, puts
such a file named `checkpoint` into a folder. A name is that of the keys on the
way, such as ema_params.net.final_layer.linear.bias.
"""

import contextlib
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
from flax import serialization, traverse_util

DEEPEST = 32  # levels
LONGEST = 1000  # characters of a name
MOST = 1_000_000  # objects; one may take 100 times its bytes in the file
MAPS = (*range(0x80, 0x90), 0xDE, 0xDF)
ARRAYS = (*range(0x90, 0xA0), 0xDC, 0xDD)
EXTENSIONS = (*range(0xC7, 0xCA), *range(0xD4, 0xD9))
"""The first bytes of objects in msgpack that have others in them."""
ELSEWHERE = 'PLACEHOLDER://'  # of an array that Orbax has in another file


def read_flax(
  path: pathlib.Path, choose: Callable[[list[str]], list[str]]
) -> dict[str, np.ndarray]:
  """The arrays of a file whose names `choose` selects.

  Raises:
    ValueError: if it is damaged, has too many levels or objects, or two arrays
      of one name, or an array is in another file.
  """
  data = path.read_bytes()
  _check_objects(data)
  leaves = _once(_leaves(serialization.msgpack_restore(data)))
  chosen = choose(list(leaves))
  for name in chosen:
    if not isinstance(leaves[name], np.ndarray):
      raise ValueError(
        f'{name} is in another file of an Orbax checkpoint: restore it there, '
        'and save its arrays as .npz'
      )
  return {name: leaves[name] for name in chosen}


def write_flax(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays, by names such as 'net.blocks.layers_0.bias', as a tree."""
  contiguous = {n: np.asarray(x, order='C') for n, x in arrays.items()}
  tree = traverse_util.unflatten_dict(contiguous, sep='.')
  path.write_bytes(serialization.msgpack_serialize(tree))


def _leaves(tree: Any, name: str = '', depth: int = 0) -> Iterator[Any]:
  """(name, array or placeholder) of a tree, in its order."""
  if depth > DEEPEST:
    raise ValueError(f'it has more than {DEEPEST} levels')
  if len(name) > LONGEST:
    raise ValueError(f'{name[:50]}... has more than {LONGEST} characters')
  if isinstance(tree, Mapping):
    for key, child in tree.items():
      yield from _leaves(
        child, f'{name}.{key}' if name else str(key), depth + 1
      )
  elif isinstance(tree, np.ndarray) or (
    isinstance(tree, str) and tree.startswith(ELSEWHERE)
  ):
    yield name, tree


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
  """The dict of pairs; raises ValueError if a name appears twice."""
  found = dict[str, Any]()
  for name, value in pairs:
    if name in found:
      raise ValueError(f'{name} appears twice')
    found[name] = value
  return found


def _check_objects(data: bytes) -> None:
  """Refuses more than MOST objects before any is made, and keys that repeat.

  Flax would make them all, and take the last of what two keys of a dict name.
  """
  count = 1
  for inside in _contents(data, EXTENSIONS):
    count += inside
    if count > MOST:
      raise ValueError(f'it has more than {MOST:,} objects')
  msgpack.unpackb(
    data,
    object_pairs_hook=_once,
    ext_hook=lambda code, content: None,
    strict_map_key=False,
  )


def _contents(data: bytes, extensions: Collection[int]) -> Iterator[int]:
  """The number of objects in each of a msgpack, to where it is cut.

  Args:
    data: the msgpack.
    extensions: the first bytes of those that have a msgpack in them.
  """
  reader = msgpack.Unpacker(max_buffer_size=len(data), ext_hook=_content)
  reader.feed(data)
  left = 1
  with contextlib.suppress(msgpack.OutOfData):
    while left and (place := reader.tell()) < len(data):
      inside = 0
      if data[place] in MAPS:
        inside = 2 * reader.read_map_header()
      elif data[place] in ARRAYS:
        inside = reader.read_array_header()
      elif data[place] in extensions:
        yield from _contents(reader.unpack(), ())
      else:
        reader.skip()
      yield inside
      left += inside - 1


def _content(code: int, content: bytes) -> bytes:
  """That of an object of another type, whatever the type."""
  del code
  return content
