"""The stack and the memo of a pickle, and the objects that stand for others.

Nothing is looked up or called: see `opcodes.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


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
