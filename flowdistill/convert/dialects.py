"""Rules for weights that several libraries name differently, both ways.

A rule has for each dialect the names of the arrays that are ours when they are
joined along their first axis: q, k and v are one array of ours. A name with
'{}' is that of a layer; ours are stacked along a first axis.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Shapes

Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dialect:
  """One library's names of what one array of ours has.

  Attributes:
    names: of the arrays that are joined; '{}' stands for the layer's number.
    axes: the transposition of theirs to ours, of one layer.
    lead: number of first axes of length 1 that only theirs has.
  """

  names: Names
  axes: tuple[int, ...]
  lead: int = 0

  def read(self, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Theirs of one layer -> ours, float32."""
    joined = np.concatenate(parts) if len(parts) > 1 else parts[0]
    joined = joined.reshape(joined.shape[self.lead :])
    return joined.transpose(self.axes).astype(np.float32)

  def write(self, array: np.ndarray) -> list[np.ndarray]:
    """Ours of one layer -> theirs."""
    theirs = array.transpose(np.argsort(self.axes))
    theirs = theirs.reshape((1,) * self.lead + theirs.shape)
    count = len(self.names)
    return np.split(theirs, count) if count > 1 else [theirs]


Rules = Mapping[str, Mapping[str, Dialect]]
"""Our path -> name of a dialect -> what it is there."""


def read(
  arrays: Mapping[str, np.ndarray], shapes: Shapes, rules: Rules, naming: Naming
) -> Arrays:
  """Their arrays as float32 by the paths of our network.

  Args:
    arrays: by their names in a file, with any known prefixes.
    shapes: path in our network -> shape.
    rules: of the network.
    naming: of the architecture.

  Raises:
    ValueError: naming the first array that is missing, that no rule reads, or
      that has another shape.
  """
  present = naming.find(arrays).params
  theirs = {bare: arrays[name] for bare, name in present.items()}
  dialect = _dialect(theirs, rules)
  ours, read_names = {}, set()
  for path, shape in shapes.items():
    rule = rules[path][dialect]
    layers = _layers(rule, shape)
    read_names.update(name for names, _ in layers for name in names)
    new = [_one(theirs, rule, names, each, naming) for names, each in layers]
    ours[path] = np.stack(new) if _stacked(rule) else new[0]
  if extra := theirs.keys() - read_names:
    raise ValueError(
      f'these weights of {naming.name} have {min(extra)}, and the network has '
      'no such array: are they those of a larger one?'
    )
  return ours


def write(
  arrays: Mapping[str, np.ndarray], rules: Rules, dialect: str
) -> Arrays:
  """Our arrays by the names of a dialect."""
  theirs = {}
  for path, array in arrays.items():
    rule = rules[path][dialect]
    each = list(array) if _stacked(rule) else [array]
    for (names, _), one in zip(_layers(rule, array.shape), each, strict=True):
      theirs |= zip(names, rule.write(one), strict=True)
  return theirs


def _dialect(theirs: Mapping[str, np.ndarray], rules: Rules) -> str:
  """The dialect of which a file has the most names."""
  counts = dict[str, int]()
  for rule in rules.values():
    for dialect, its in rule.items():
      names = [name.format(0) for name in its.names]
      counts[dialect] = counts.get(dialect, 0) + sum(n in theirs for n in names)
  return max(counts, key=lambda dialect: counts[dialect])


def _stacked(rule: Dialect) -> bool:
  return '{}' in rule.names[0]


def _layers(
  rule: Dialect, shape: tuple[int, ...]
) -> list[tuple[Names, tuple[int, ...]]]:
  """(names, shape of ours) of each layer, or of the one array."""
  if not _stacked(rule):
    return [(rule.names, shape)]
  numbered = (
    tuple(name.format(i) for name in rule.names) for i in range(shape[0])
  )
  return [(names, shape[1:]) for names in numbered]


def _one(
  theirs: Mapping[str, np.ndarray],
  rule: Dialect,
  names: Names,
  shape: tuple[int, ...],
  naming: Naming,
) -> np.ndarray:
  """Our array of one layer."""
  wanted = rule.write(np.empty(shape, bool))
  for name, like in zip(names, wanted, strict=True):
    if name not in theirs:
      raise ValueError(f'these weights of {naming.name} have no {name}')
    if theirs[name].shape != like.shape:
      raise ValueError(
        f'these weights of {naming.name} have {name} of shape '
        f'{list(theirs[name].shape)}; for the network it must be '
        f'{list(like.shape)}'
      )
  return rule.read([theirs[name] for name in names])
