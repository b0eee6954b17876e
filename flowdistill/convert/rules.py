"""Rules for weights of PyTorch and of SlimFlow's checkpoints, both ways.

A network has a rule for each of its arrays. A checkpoint may have its weights
below prefixes (see `prefixes.py`), and EMA weights by their names too, or as
SlimFlow's bare list `ema.shadow_params`, in the order of the trained
parameters.

Source of the names: https://github.com/yuanzhi-zhu/SlimFlow.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from flowdistill.convert.prefixes import Naming, shadow_number

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Rule:
  """The relation of one of our arrays to one of theirs.

  Attributes:
    ours: path in our network.
    theirs: name in theirs, without prefixes.
    axes: the transposition of theirs to ours.
    ones: number of trailing axes of length 1 that only theirs has.
    negative: whether ours is theirs times −1.
    learnt: whether it is trained, and so has an EMA.
  """

  ours: str
  theirs: str
  axes: tuple[int, ...]
  ones: int = 0
  negative: bool = False
  learnt: bool = True

  def read(self, array: np.ndarray) -> np.ndarray:
    """Theirs -> ours, float32."""
    array = array.reshape(array.shape[: len(self.axes)])
    ours = array.transpose(self.axes).astype(np.float32)
    return -ours if self.negative else ours

  def write(self, array: np.ndarray) -> np.ndarray:
    """Ours -> theirs."""
    theirs = array.transpose(np.argsort(self.axes))
    theirs = theirs.reshape(theirs.shape + (1,) * self.ones)
    return -theirs if self.negative else theirs


def read(
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
  rules: Sequence[Rule],
  naming: Naming,
) -> Arrays:
  """Their arrays as float32 by the paths of our network.

  Args:
    arrays: by their names in a file, with any known prefixes; other names are
      ignored.
    shapes: path in our network -> shape.
    rules: of the network.
    naming: of the architecture.

  Returns:
    our arrays by their paths.

  Raises:
    ValueError: naming the first array that is missing, that no rule reads, that
      appears twice, or that has another shape.
  """
  return _read(arrays, shapes, rules, naming, naming.find(arrays).params)


def read_ema(
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
  rules: Sequence[Rule],
  naming: Naming,
) -> Arrays:
  """The EMA weights of a checkpoint as float32 by the paths of our network.

  Args:
    arrays: of a checkpoint: the EMA weights by their names or as a list
      `ema.shadow_params.0`, ..., and the parameters, for what is not trained.
    shapes: path in our network -> shape.
    rules: of the network, in the order of its parameters.
    naming: of the architecture.

  Raises:
    ValueError: if a list has more or fewer EMA arrays than there are
      parameters, or as `read`.
  """
  found, names = naming.find(arrays), dict[str, str]()
  if found.shadow:
    learnt = [rule.theirs for rule in rules if rule.learnt]
    if sorted(found.shadow) != list(range(len(learnt))):
      raise ValueError(
        f'these weights have {len(found.shadow)} arrays in ema.shadow_params; '
        f'for the trained parameters of the network it must be {len(learnt)}'
      )
    names = {name: found.shadow[i] for i, name in enumerate(learnt)}
  fixed = {rule.theirs for rule in rules if not rule.learnt}
  untrained = {n: found.params[n] for n in fixed & found.params.keys()}
  theirs = {**untrained, **found.ema, **names}
  return _read(arrays, shapes, rules, naming, theirs)


def _read(
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
  rules: Sequence[Rule],
  naming: Naming,
  theirs: Mapping[str, str],
) -> Arrays:
  """As `read`, by their names -> the names in the file."""
  extra = theirs.keys() - {rule.theirs for rule in rules}
  if extra:
    raise ValueError(
      f'these weights of {naming.name} have {min(extra)}, and the network '
      'has no such array: are its options those of the weights?'
    )
  ours = {}
  for rule in rules:
    if rule.theirs not in theirs:
      raise ValueError(f'these weights of {naming.name} have no {rule.theirs}')
    array = arrays[theirs[rule.theirs]]
    wanted = rule.write(np.empty(shapes[rule.ours])).shape
    if wanted == () and array.shape == (1,):  # such as gains of FastGen
      array = array.reshape(())
    if array.shape != wanted:
      raise ValueError(
        f'these weights of {naming.name} have {rule.theirs} of shape '
        f'{list(array.shape)}; for the network it must be {list(wanted)}'
      )
    ours[rule.ours] = rule.read(array)
  return ours


def write(arrays: Mapping[str, np.ndarray], rules: Iterable[Rule]) -> Arrays:
  """Our arrays by their names."""
  return {rule.theirs: rule.write(arrays[rule.ours]) for rule in rules}


def needed(names: Iterable[str], naming: Naming, *, ema: bool) -> list[str]:
  """The names in a checkpoint that hold weights, or EMA weights too."""
  return [
    n for n in names if naming.bare(n) or (ema and shadow_number(n) is not None)
  ]


def shapes_of(arrays: Mapping[str, np.ndarray]) -> Shapes:
  """The shapes of arrays, by their paths."""
  return {path: array.shape for path, array in arrays.items()}


def needed_shape(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
  """The shape of an array that must be there, with so many axes.

  Raises:
    ValueError: if it is not.
  """
  shape = shapes.get(name)
  if shape is None or len(shape) != axes or not all(shape):
    raise ValueError(f'there is no {name} with {axes} axes')
  return shape


def order(layer: str, words: Sequence[str], naming: Naming) -> tuple[int, ...]:
  """The sort key of a layer such as 'down.1.steps.0': words, then numbers.

  Raises:
    ValueError: if a part of it is neither one of the words nor a number.
  """
  parts = layer.split('.')
  if not all(part.isdigit() or part in words for part in parts):
    raise ValueError(f'{layer} is no layer of an {naming.name}')
  return tuple(int(p) if p.isdigit() else words.index(p) for p in parts)
