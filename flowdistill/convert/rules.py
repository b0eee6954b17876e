"""Weights of PyTorch and of SlimFlow's checkpoints by rules, both ways.

A network's module has a rule for each of its arrays. A state dict may have
`module.` before each name; a checkpoint has the names below `model`, and the
averages as a bare list `ema.shadow_params`, in the order of the parameters that
are learnt.

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
  """How weights of one network are read and written.

  Attributes:
    wanted: wanted(names, ema=...): those that weights or averages need.
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
    """Our arrays: `params`, and `ema` where there are averages."""
    found = {'params': self.from_torch(arrays, shapes)}
    if any(SHADOW.match(name) for name in arrays):
      found['ema'] = self.ema_from_torch(arrays, shapes)
    return found


@dataclasses.dataclass(frozen=True)
class Kind:
  """What weights are called.

  Attributes:
    name: in messages.
    first: a pattern of how all names of theirs start.
    ignored: a pattern of the names, of those, that no rule reads.
  """

  name: str
  first: str
  ignored: str = '(?!)'

  def named(self, name: str) -> str | None:
    """A name without what may come before it, None if it is none of theirs."""
    found = re.match(rf'(?:model\.)?(?:module\.)?({self.first}.*)$', name)
    bare = found[1] if found else None
    return None if bare is None or re.search(self.ignored, bare) else bare


@dataclasses.dataclass(frozen=True)
class Rule:
  """Where an array is.

  Attributes:
    ours: its path in our network.
    theirs: its name in theirs, with nothing before it.
    axes: theirs transposed by them is ours.
    ones: so many axes of length 1 does theirs have after those.
    negative: whether ours is theirs times −1.
    learnt: whether it has an average.
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
  kind: Kind,
) -> Arrays:
  """Their arrays as float32 by the paths of our network.

  Args:
    arrays: by the names of a state dict or of a checkpoint's `model`, with or
      without `module.`; names of another kind are ignored.
    shapes: what our network has, by its paths.
    rules: of the network.
    kind: of the weights.

  Returns:
    what the rules say, by our paths.

  Raises:
    ValueError: naming the first array that is missing, that no rule reads, that
      is there twice, or that has another shape.
  """
  named = [(name, n) for n in arrays if (name := kind.named(n))]
  check_once([name for name, _ in named])
  theirs = dict(named)
  extra = theirs.keys() - {rule.theirs for rule in rules}
  if extra:
    raise ValueError(
      f'these weights of {kind.name} have {min(extra)}, and the network has no '
      'such array: are its options those of the weights?'
    )
  found = {}
  for rule in rules:
    if rule.theirs not in theirs:
      raise ValueError(f'these weights of {kind.name} have no {rule.theirs}')
    array = arrays[theirs[rule.theirs]]
    wanted = rule.write(np.empty(shapes[rule.ours])).shape
    if array.shape != wanted:
      raise ValueError(
        f'these weights of {kind.name} have {rule.theirs} of shape '
        f'{list(array.shape)}, and in the network it is {list(wanted)}'
      )
    found[rule.ours] = rule.read(array)
  return found


def read_ema(
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
  rules: Sequence[Rule],
  kind: Kind,
) -> Arrays:
  """The averages of a checkpoint as float32 by the paths of our network.

  Args:
    arrays: of a checkpoint: `ema.shadow_params.0`, ..., and `model`, which has
      what is not learnt.
    shapes: what our network has, by its paths.
    rules: of the network, in the order of its parameters.
    kind: of the weights.

  Raises:
    ValueError: if there are more or fewer averages than parameters, or as
      `read`.
  """
  names = [rule.theirs for rule in rules if rule.learnt]
  found = {int(m[1]): n for n in arrays if (m := SHADOW.match(n))}
  if sorted(found) != list(range(len(names))):
    raise ValueError(
      f'these weights have {len(found)} of ema.shadow_params, and the network '
      f'has {len(names)} parameters that are learnt'
    )
  fixed = {rule.theirs for rule in rules if not rule.learnt}
  kept = {
    name: array
    for n, array in arrays.items()
    if (name := kind.named(n)) in fixed and name
  }
  shadow = {name: arrays[found[i]] for i, name in enumerate(names)}
  return read(kept | shadow, shapes, rules, kind)


def write(
  arrays: Mapping[str, np.ndarray], rules: Iterable[Rule], prefix: str = ''
) -> Arrays:
  """Our arrays by their names, after `prefix`, such as 'module.'."""
  return {prefix + rule.theirs: rule.write(arrays[rule.ours]) for rule in rules}


def write_ema(
  arrays: Mapping[str, np.ndarray], rules: Iterable[Rule]
) -> list[np.ndarray]:
  """Our arrays as their `shadow_params`."""
  return [rule.write(arrays[rule.ours]) for rule in rules if rule.learnt]


def needed(names: Iterable[str], kind: Kind, *, ema: bool) -> list[str]:
  """Of the names in a checkpoint those that weights or averages need."""
  return [n for n in names if kind.named(n) or (ema and SHADOW.match(n))]


def shapes_of(arrays: Mapping[str, np.ndarray]) -> Shapes:
  """The shapes of arrays, by their paths."""
  return {path: array.shape for path, array in arrays.items()}


def order(layer: str, words: Sequence[str], kind: Kind) -> tuple[int, ...]:
  """'down.1.steps.0' -> its place: by words, and then by numbers.

  Raises:
    ValueError: if a part of it is neither a word nor a number.
  """
  parts = layer.split('.')
  if not all(part.isdigit() or part in words for part in parts):
    raise ValueError(f'{layer} is no layer of an {kind.name}')
  return tuple(int(p) if p.isdigit() else words.index(p) for p in parts)


def check_once(names: list[str]) -> None:
  """Raises ValueError if a name is there twice."""
  twice = {name for name in names if names.count(name) > 1}
  if twice:
    raise ValueError(f'{min(twice)} is there twice')
