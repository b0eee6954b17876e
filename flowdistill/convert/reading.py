"""Arrays of ours, made of the tensors that another program has saved.

Tensors are read one by one, and each array of ours is made of those that it
has, so that beside the arrays that are already placed there is never more than
one in memory.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from flowdistill.convert.lora import LoRA
from flowdistill.convert.names import listed
from flowdistill.convert.rules import Rule, Shapes
from flowdistill.convert.safetensors_files import Stored
from flowdistill.convert.saved_network import SavedNetwork
from flowdistill.convert.stacked import STACK, single_shapes


@dataclasses.dataclass(frozen=True)
class Reading:
  """How our arrays are made of tensors.

  Attributes:
    shapes: our path -> shape; layers are stacked.
    parts: our path -> (rule, tensor) of each layer, or of the one array.
    lora: name of a layer -> what is added to its weight.
  """

  shapes: Shapes
  parts: Mapping[str, list[tuple[Rule, Stored]]]
  lora: LoRA = dataclasses.field(default_factory=dict)

  def array(self, path: str, dtype: np.dtype) -> np.ndarray:
    """One of our arrays.

    Raises:
      ValueError: naming the tensor, if it is not finite.
    """
    whole = np.empty(self.shapes[path], dtype)
    parts = self.parts[path]
    layers = whole if STACK.fullmatch(path) else whole[None]
    for layer, (rule, tensor) in zip(layers, parts, strict=True):
      array = rule.read(self._updated(rule, tensor))
      if not np.isfinite(array).all():
        raise ValueError(
          f'{tensor.path}: {tensor.name} has numbers that are not finite'
        )
      layer[...] = array
    return whole

  def _updated(self, rule: Rule, tensor: Stored) -> np.ndarray:
    """A tensor as it is, or W + ΔW in float32."""
    name = rule.theirs.removesuffix('.weight')
    if name not in self.lora:
      return tensor.read()
    return tensor.read().astype(np.float32) + self.lora[name].delta


def plan_reading(
  saved: SavedNetwork,
  shapes: Shapes,
  make_rules: Callable[[Shapes], list[Rule]],
) -> Reading:
  """Which tensors make our arrays.

  Args:
    saved: the network.
    shapes: our path -> shape; layers are stacked.
    make_rules: of single layers.

  Raises:
    ValueError: listing the tensors that no array has, or that are missing, or
      naming one of another shape.
  """
  single = single_shapes(shapes)
  rules = {rule.ours: rule for rule in make_rules(single)}
  names = {rule.theirs for rule in rules.values()}
  for wrong, what in (
    (sorted(saved.tensors.keys() - names), 'are not used by the network'),
    (sorted(names - saved.tensors.keys()), 'are missing'),
  ):
    if wrong:
      raise ValueError(f'{saved.path}: {listed(wrong)}: these tensors {what}')
  for rule in rules.values():
    _check_shape(saved.tensors[rule.theirs], rule, single[rule.ours])
  parts: dict[str, list[tuple[Rule, Stored]]] = {}
  for path, rule in rules.items():
    parts.setdefault(_stack_of(path, shapes), []).append(
      (rule, saved.tensors[rule.theirs])
    )
  return Reading(shapes, parts)


def _stack_of(path: str, shapes: Shapes) -> str:
  """'blocks.3.qkv.kernel' -> 'blocks.each.qkv.kernel', if that is ours."""
  if path in shapes:
    return path
  name, _, inside = path.split('.', 2)
  return f'{name}.each.{inside}'


def _check_shape(tensor: Stored, rule: Rule, shape: tuple[int, ...]) -> None:
  wanted = rule.write(np.broadcast_to(np.empty((), np.float32), shape)).shape
  if tensor.shape != wanted:
    of = '' if tensor.name == rule.theirs else f', of {tensor.name},'
    raise ValueError(
      f'{tensor.path}: {rule.theirs}{of} has the shape {list(tensor.shape)}; '
      f'for this network it must be {list(wanted)}'
    )
