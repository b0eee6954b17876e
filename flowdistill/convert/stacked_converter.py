"""Reads and writes a transformer of diffusers that has stacked blocks here."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from flowdistill.convert.converter import Converter
from flowdistill.convert.rules import Arrays, Shapes
from flowdistill.convert.stacked import single_arrays, single_shapes, stacked

DIFFUSERS, ORIGINAL = NAMES = 'diffusers', 'original'
Reader = Callable[[Mapping[str, np.ndarray], Shapes], Arrays]


@dataclasses.dataclass(frozen=True)
class StackedConverter(Converter):
  """The rules are those of single layers.

  What only ours has is written under names of its own, and read where it is.

  Attributes:
    named: the arrays of a file by the names of diffusers, which the rules have,
      with their prefixes.
    original: arrays by the names of diffusers -> by those of the original.
    only_ours: a pattern of paths that a file need not have.
    check: raises ValueError for (names of theirs, our shapes) of a network with
      other options.
  """

  named: Callable[[Mapping[str, np.ndarray]], Arrays] = dict
  original: Callable[[Mapping[str, np.ndarray]], Arrays] = dict
  only_ours: re.Pattern[str] = re.compile('(?!)')
  check: Callable[[Collection[str], Shapes], None] = lambda names, shapes: None

  def from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """The arrays of a file, as `Converter.from_torch`."""
    return self._read(super().from_torch, arrays, shapes)

  def ema_from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """The EMA weights of a checkpoint, as `Converter.ema_from_torch`."""
    return self._read(super().ema_from_torch, arrays, shapes)

  def to_torch(
    self,
    arrays: Mapping[str, np.ndarray],
    side: int,
    prefix: str = '',
    network: Mapping[str, Any] = MappingProxyType({}),
    names: str = DIFFUSERS,
  ) -> Arrays:
    """Our arrays by the names of diffusers, or with ORIGINAL of the original.

    Raises:
      ValueError: if `names` is not in NAMES.
    """
    if names not in NAMES:
      raise ValueError(f'names = {names!r} must be one of {NAMES}')
    theirs = super().to_torch(single_arrays(arrays), side, '', network)
    theirs = self.original(theirs) if names == ORIGINAL else theirs
    return {f'{prefix}{name}': x for name, x in theirs.items()}

  def constants(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> frozenset[str]:
    """The paths of our arrays that are not trained, none of them stacked."""
    return super().constants(arrays, single_shapes(shapes))

  def _read(
    self, reader: Reader, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """Our arrays, of which `reader` reads those of single layers."""
    theirs = self.named(arrays)
    present = {part for name in theirs if (part := self.naming.bare(name))}
    self.check(present, shapes)
    single = single_shapes(shapes)
    absent = {
      rule.ours
      for rule in self.make_rules(single, 0)
      if self.only_ours.match(rule.ours) and rule.theirs not in present
    }
    wanted = {p: shape for p, shape in single.items() if p not in absent}
    stacks = {path.partition('.')[0] for path in shapes if '.each.' in path}
    return stacked(reader(theirs, wanted), stacks)
