"""Reads and writes a network's weights under PyTorch's names, by its rules."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from flowdistill.convert.modules import Made
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import (
  Arrays,
  Rule,
  Shapes,
  needed,
  read,
  read_ema,
  shapes_of,
  write,
)


@dataclasses.dataclass(frozen=True)
class Converter:
  """Reads and writes the weights of one network.

  Attributes:
    naming: of its arrays.
    make_rules: (our shapes, side of the images) -> the rules of a network, in
      the order of its parameters.
    grid: on which the original draws samples.
    side: a name that contains the side of the images, such as
      'enc.<side>x<side>_conv.weight'; '' where none does.
    buffers: (names of theirs, our options) -> arrays that only theirs has.
    changes: (how a network in a snapshot was made, our options) -> the options
      that must have another value; None if they have no such snapshots.
  """

  naming: Naming
  make_rules: Callable[[Shapes, int], list[Rule]]
  grid: Mapping[str, Any]
  side: str = ''
  buffers: Callable[[Iterable[str], Mapping[str, Any]], Arrays] | None = None
  changes: Callable[[Made, Mapping[str, Any]], Mapping[str, Any]] | None = None

  def wanted(self, names: Iterable[str], *, ema: bool) -> list[str]:
    """The names in a checkpoint that hold weights, or EMA weights too."""
    return needed(names, self.naming, ema=ema)

  def read(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> dict[str, Arrays]:
    """Our arrays: `params`, and `ema` where there are EMA weights too."""
    ours = {'params': self.from_torch(arrays, shapes)}
    found = self.naming.find(arrays)
    if found.ema or found.shadow:
      ours['ema'] = self.ema_from_torch(arrays, shapes)
    return ours

  def from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """PyTorch's arrays as float32 by the paths of our network.

    Args:
      arrays: by their names in a file, with any known prefixes; others are
        ignored.
      shapes: path in our network -> shape.

    Returns:
      our arrays, except those that only ours has.

    Raises:
      ValueError: if no name contains the side of the images, or as `read`.
    """
    return read(arrays, shapes, self._rules(arrays, shapes), self.naming)

  def ema_from_torch(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> Arrays:
    """The EMA weights of a checkpoint, as `read_ema`."""
    return read_ema(arrays, shapes, self._rules(arrays, shapes), self.naming)

  def to_torch(
    self,
    arrays: Mapping[str, np.ndarray],
    side: int,
    prefix: str = '',
    network: Mapping[str, Any] = MappingProxyType({}),
  ) -> Arrays:
    """Our arrays, and what only theirs has, by PyTorch's names.

    Args:
      arrays: by the paths of our network.
      side: of its images, in pixels.
      prefix: of the names, such as 'module.'.
      network: its options.
    """
    theirs = write(arrays, self.make_rules(shapes_of(arrays), side))
    more = {} if self.buffers is None else self.buffers(theirs, network)
    return {f'{prefix}{name}': x for name, x in (theirs | more).items()}

  def in_flax(self, theirs: Arrays) -> Arrays:
    """PyTorch's arrays as the original has them in Flax.

    Raises:
      ValueError: if it has none.
    """
    del theirs
    raise ValueError(
      f'weights of {self.naming.name} have no names in Flax: write '
      '.safetensors or .npz'
    )

  def ema_to_torch(
    self, arrays: Mapping[str, np.ndarray], side: int
  ) -> list[np.ndarray]:
    """Our arrays as the list `shadow_params`."""
    rules = self.make_rules(shapes_of(arrays), side)
    return [rule.write(arrays[rule.ours]) for rule in rules if rule.learnt]

  def constants(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> frozenset[str]:
    """The paths of our arrays that are not trained, such as frequencies."""
    rules = self._rules(arrays, shapes)
    return frozenset(rule.ours for rule in rules if not rule.learnt)

  def side_of(self, names: Iterable[str]) -> int:
    """The side of the images, in pixels; 0 where names do not contain it.

    Raises:
      ValueError: if they must, and none does.
    """
    if not self.side:
      return 0
    pattern = re.escape(self.side).replace('<side>', r'(\d+)', 1)
    pattern = pattern.replace('<side>', r'\1') + '$'
    for name in names:
      if self.naming.bare(name) and (found := re.search(pattern, name)):
        return int(found[1])
    raise ValueError(f'these weights of {self.naming.name} have no {self.side}')

  def _rules(self, names: Iterable[str], shapes: Shapes) -> list[Rule]:
    return self.make_rules(shapes, self.side_of(names))
