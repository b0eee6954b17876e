"""Rules for weights of PyTorch and of SlimFlow's checkpoints, both ways.

A network has a rule for each of its arrays. A state dict may have the prefix
`module.`; a checkpoint has the names below `model`, and the EMA weights as a
bare list `ema.shadow_params`, in the order of the trained parameters.

Source of the names: https://github.com/yuanzhi-zhu/SlimFlow.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
SHADOW = re.compile(r'^ema\.shadow_params\.(\d+)$')


@dataclasses.dataclass(frozen=True)
class Converter:
  """Reads and writes the weights of one network.

  Attributes:
    wanted: wanted(names, ema=...): the names that are read.
    from_torch, ema_from_torch: (arrays, our shapes) -> our arrays.
    to_torch: (our arrays, side of the images) -> arrays by their names.
  """

  wanted: Callable[..., list[str]]
  from_torch: Callable[[Mapping[str, np.ndarray], Shapes], Arrays]
  ema_from_torch: Callable[[Mapping[str, np.ndarray], Shapes], Arrays]
  to_torch: Callable[[Mapping[str, np.ndarray], int], Arrays]

  def read(
    self, arrays: Mapping[str, np.ndarray], shapes: Shapes
  ) -> dict[str, Arrays]:
    """Our arrays: `params`, and `ema` where there are EMA weights."""
    ours = {'params': self.from_torch(arrays, shapes)}
    if any(SHADOW.match(name) for name in arrays):
      ours['ema'] = self.ema_from_torch(arrays, shapes)
    return ours


@dataclasses.dataclass(frozen=True)
class Naming:
  """The names of the arrays of an architecture in PyTorch.

  Attributes:
    name: of the architecture, for messages.
    first: a pattern that all names begin with.
    ignored: a pattern of names that no rule reads.
  """

  name: str
  first: str
  ignored: str = '(?!)'

  def bare(self, name: str) -> str | None:
    """A name without prefixes, None if it is not of this architecture."""
    match = re.match(rf'(?:model\.)?(?:module\.)?({self.first}.*)$', name)
    if not match or re.search(self.ignored, match[1]):
      return None
    return match[1]


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
    arrays: by the names of a state dict or of a checkpoint's `model`, with or
      without `module.`; other names are ignored.
    shapes: path in our network -> shape.
    rules: of the network.
    naming: of the architecture.

  Returns:
    our arrays by their paths.

  Raises:
    ValueError: naming the first array that is missing, that no rule reads, that
      appears twice, or that has another shape.
  """
  bare = [(name, n) for n in arrays if (name := naming.bare(n))]
  check_once([name for name, _ in bare])
  theirs = dict(bare)
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
    if array.shape != wanted:
      raise ValueError(
        f'these weights of {naming.name} have {rule.theirs} of shape '
        f'{list(array.shape)}; for the network it must be {list(wanted)}'
      )
    ours[rule.ours] = rule.read(array)
  return ours


def read_ema(
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
  rules: Sequence[Rule],
  naming: Naming,
) -> Arrays:
  """The EMA weights of a checkpoint as float32 by the paths of our network.

  Args:
    arrays: of a checkpoint: `ema.shadow_params.0`, ..., and `model`, for what
      is not trained.
    shapes: path in our network -> shape.
    rules: of the network, in the order of its parameters.
    naming: of the architecture.

  Raises:
    ValueError: if there are more or fewer EMA arrays than parameters, or as
      `read`.
  """
  names = [rule.theirs for rule in rules if rule.learnt]
  numbered = {int(m[1]): n for n in arrays if (m := SHADOW.match(n))}
  if sorted(numbered) != list(range(len(names))):
    raise ValueError(
      f'these weights have {len(numbered)} arrays in ema.shadow_params; for '
      f'the trained parameters of the network it must be {len(names)}'
    )
  fixed = {rule.theirs for rule in rules if not rule.learnt}
  untrained = {
    name: array
    for n, array in arrays.items()
    if (name := naming.bare(n)) in fixed and name
  }
  shadow = {name: arrays[numbered[i]] for i, name in enumerate(names)}
  return read(untrained | shadow, shapes, rules, naming)


def write(
  arrays: Mapping[str, np.ndarray], rules: Iterable[Rule], prefix: str = ''
) -> Arrays:
  """Our arrays by their names, with a prefix such as 'module.'."""
  return {prefix + rule.theirs: rule.write(arrays[rule.ours]) for rule in rules}


def write_ema(
  arrays: Mapping[str, np.ndarray], rules: Iterable[Rule]
) -> list[np.ndarray]:
  """Our arrays as the list `shadow_params`."""
  return [rule.write(arrays[rule.ours]) for rule in rules if rule.learnt]


def needed(names: Iterable[str], naming: Naming, *, ema: bool) -> list[str]:
  """The names in a checkpoint that hold weights, or EMA weights too."""
  return [n for n in names if naming.bare(n) or (ema and SHADOW.match(n))]


def shapes_of(arrays: Mapping[str, np.ndarray]) -> Shapes:
  """The shapes of arrays, by their paths."""
  return {path: array.shape for path, array in arrays.items()}


def order(layer: str, words: Sequence[str], naming: Naming) -> tuple[int, ...]:
  """The sort key of a layer such as 'down.1.steps.0': words, then numbers.

  Raises:
    ValueError: if a part of it is neither one of the words nor a number.
  """
  parts = layer.split('.')
  if not all(part.isdigit() or part in words for part in parts):
    raise ValueError(f'{layer} is no layer of an {naming.name}')
  return tuple(int(p) if p.isdigit() else words.index(p) for p in parts)


def check_once(names: list[str]) -> None:
  """Raises ValueError if a name appears twice."""
  twice = {name for name in names if names.count(name) > 1}
  if twice:
    raise ValueError(f'{min(twice)} appears twice')
