"""The abstract type of examples: the shape of x0 and of every condition.

Networks, batches, sampling, sweeps and pairs all use a `DataSpec`; nothing else
defines what a label is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flowdistill.files.stored_array import StoredArray

LABEL, TOKENS, CONTROL = 'label', 'tokens', 'control'


@dataclasses.dataclass(frozen=True)
class Condition:
  """One condition of an example, abstractly.

  Attributes:
    shape: without the batch axis, () for a scalar.
    dtype: name of a NumPy dtype.
    null: the unconditional value: a number for all entries, nested tuples
      of `shape`, or a `StoredArray`.
  """

  shape: tuple[int, ...] = ()
  dtype: str = 'float32'
  null: Any = 0

  def full(self, n: int) -> np.ndarray:
    """The null value of n examples, [n, *shape]."""
    null = np.asarray(self.null, self.dtype)
    return np.broadcast_to(null, (n, *self.shape)).copy()

  def abstract(self, n: int) -> jax.ShapeDtypeStruct:
    """An array [n, *shape], abstractly."""
    return jax.ShapeDtypeStruct((n, *self.shape), np.dtype(self.dtype))


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """An example, abstractly.

  Attributes:
    shape: of x0, without the batch axis.
    cond: name -> condition. Names with a meaning are `label` (an integer whose
      null is the number of classes), `text` [n, d] or `tokens` [n] (integers,
      of which the largest is padding, and the null) with `mask` [n], `pooled`
      [d], and `control` (shaped like x0).
    classes: their names, in the order of the labels; empty where unknown.
    text: what made `text` or `tokens` of captions, as plain data for JSON; None
      where unknown.
  """

  shape: tuple[int, ...]
  cond: Mapping[str, Condition] = dataclasses.field(default_factory=dict)
  classes: tuple[str, ...] = ()
  text: Mapping[str, Any] | None = None

  def __post_init__(self) -> None:
    if self.classes and len(self.classes) != self.num_classes:
      raise ValueError(
        f'classes has {len(self.classes)} names and must have '
        f'{self.num_classes}'
      )

  @classmethod
  def labelled(
    cls, shape: Sequence[int], num_classes: int, classes: Sequence[str] = ()
  ) -> 'DataSpec':
    """Examples with an integer label each, or without if `num_classes` is 0."""
    label = Condition((), 'int32', num_classes)
    cond = {LABEL: label} if num_classes else {}
    return cls(tuple(shape), cond, tuple(classes))

  @property
  def num_classes(self) -> int:
    """The number of classes, 0 without labels."""
    return int(self.cond[LABEL].null) if LABEL in self.cond else 0

  @property
  def num_tokens(self) -> int:
    """The number of different `tokens`, with padding; 0 without any."""
    return int(np.max(self.cond[TOKENS].null)) + 1 if TOKENS in self.cond else 0

  def each_class(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """The labels of numbered examples: all classes in turn, {} without any."""
    if not self.num_classes:
      return {}
    return {LABEL: (index % self.num_classes).astype(np.int32)}

  def null(self, cond: Mapping[str, Any]) -> dict[str, Any]:
    """`cond` with null values; names that are not in the spec are unchanged."""
    return {
      name: self.cond[name].full(len(value)) if name in self.cond else value
      for name, value in cond.items()
    }

  def batch(self, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Raw arrays [b, ...] with the conditions moved to `cond`, and `null`.

    Other arrays, such as `x0`, `x1` or `noise`, are unchanged.
    """
    cond = {name: raw[name] for name in self.cond}
    rest = {name: value for name, value in raw.items() if name not in cond}
    return {**rest, 'cond': cond, 'null': self.null(cond)}

  def abstract(self, n: int) -> dict[str, Any]:
    """A batch of n examples, abstractly: `x0`, `cond` and `null`."""
    cond = {name: c.abstract(n) for name, c in self.cond.items()}
    x0 = jax.ShapeDtypeStruct((n, *self.shape), np.float32)
    return {'x0': x0, 'cond': cond, 'null': cond}

  def to_json(self) -> dict[str, Any]:
    """The spec as plain data for JSON; the inverse of `of`."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, record: Mapping[str, Any]) -> 'DataSpec':
    """The spec from the result of `to_json`."""
    cond = {
      name: Condition(
        tuple(each['shape']), each['dtype'], _as_tuples(each['null'])
      )
      for name, each in record['cond'].items()
    }
    return cls(
      tuple(record['shape']),
      cond,
      tuple(record['classes']),
      record.get('text'),
    )

  def __str__(self) -> str:
    """'[8, 8, 1] with 10 classes', '[4, 4, 1] with text [7, 16], mask [7]'."""
    words = [
      f'{self.num_classes} classes'
      if name == LABEL
      else f'{name} {list(each.shape)}'
      for name, each in self.cond.items()
    ]
    more = f' with {", ".join(words)}' if words else ''
    return f'{list(self.shape)}{more}'


def _as_tuples(value: Any) -> Any:
  if isinstance(value, Mapping):
    return StoredArray(**value)
  return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
