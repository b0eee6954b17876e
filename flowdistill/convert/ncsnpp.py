"""NCSN++ weights of rectified flow and SlimFlow, both ways.

In PyTorch the layers are one list in the order in which they run, so that

  all_modules.6.Conv_0.weight

is in the seventh of them. Ours lie in levels, but run in the same order: the
rules follow from the paths of a network. `module.` may come before each name,
and a checkpoint has the names below `model`, and the averages as a bare list
`ema.shadow_params` in the order of the parameters that are learnt.

Time. Theirs is 1 at data. The network turns it where it embeds it; here turns
the sign of the velocity, v_ours = −v, that of the layers that put it out.
Embeddings of s, labels and scalars are ours alone.

Source of the names: https://github.com/yang-song/score_sde_pytorch,
https://github.com/yuanzhi-zhu/SlimFlow.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]
OURS_ALONE = re.compile(r'times\.of_s\.|label\.|scalars\.')
ORDER = (
  *('times', 'frequencies', 'first', 'second'),
  *('down', 'middle', 'up', 'last'),
  *('steps', 'block', 'attention', 'shrink', 'pyramid', 'grow'),
  *('resample', 'head', 'layers'),
)
"""What runs before what, where both have the same parent; then by number."""
INSIDE = {
  'norm_in': 'GroupNorm_0',
  'norm': 'GroupNorm_0',
  'conv_in': 'Conv_0',
  'shift': 'Dense_0',
  'norm_out': 'GroupNorm_1',
  'conv_out': 'Conv_1',
  'conv': 'Conv_0',
  'fir_conv': 'Conv2d_0',
  'q': 'NIN_0',
  'k': 'NIN_1',
  'v': 'NIN_2',
  'out': 'NIN_3',
  'skip': 'Conv_2',  # or, if it is no convolution, NIN_0
}
"""The parts of a layer, in the order in which it has them."""
PREFIX = re.compile(r'^(model\.)?(module\.)?(?=all_modules\.)')
SHADOW = re.compile(r'^ema\.shadow_params\.(\d+)$')


@dataclasses.dataclass(frozen=True)
class Rule:
  """Where an array is.

  Attributes:
    ours: its path in our network.
    theirs: its name in theirs, from `all_modules.` on.
    axes: theirs transposed by them is ours.
    negative: whether ours is theirs times −1.
    learnt: whether it has an average.
  """

  ours: str
  theirs: str
  axes: tuple[int, ...]
  negative: bool
  learnt: bool

  def read(self, array: np.ndarray) -> np.ndarray:
    """Theirs -> ours, float32."""
    ours = array.transpose(self.axes).astype(np.float32)
    return -ours if self.negative else ours

  def write(self, array: np.ndarray) -> np.ndarray:
    """Ours -> theirs."""
    theirs = array.transpose(np.argsort(self.axes))
    return -theirs if self.negative else theirs


def make_rules(shapes: Shapes) -> list[Rule]:
  """The rules of a network, in the order of their parameters.

  Args:
    shapes: what our network has, by its paths.

  Raises:
    ValueError: if there is a path that no NCSN++ has, or two are one of theirs.
  """
  places = {p: _place(p) for p in shapes if not OURS_ALONE.match(p)}
  layers = sorted({layer for layer, _, _ in places.values()}, key=_order)
  numbers = {layer: i for i, layer in enumerate(layers)}
  rules = [
    _rule(path, numbers[layer], part, leaf, shapes)
    for path, (layer, part, leaf) in places.items()
  ]
  inside = list(INSIDE)

  def position(rule: Rule) -> tuple[int, ...]:
    layer, part, leaf = places[rule.ours]
    return numbers[layer], inside.index(part) if part else 0, leaf == 'bias'

  rules = sorted(rules, key=position)
  _check_once([rule.theirs for rule in rules])
  return rules


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Args:
    arrays: by the names of a state dict or of a checkpoint's `model`, with or
      without `module.`; names that are not `all_modules` are ignored.
    shapes: what our network has, by its paths.

  Returns:
    all of our arrays but those that are ours alone.

  Raises:
    ValueError: naming the first array that is missing, that no rule reads, that
      is there twice, or that has another shape.
  """
  named = [(PREFIX.sub('', n), n) for n in arrays if PREFIX.match(n)]
  _check_once([name for name, _ in named])
  theirs, rules = dict(named), make_rules(shapes)
  extra = theirs.keys() - {rule.theirs for rule in rules}
  if extra:
    raise ValueError(
      f'these weights of NCSN++ have {min(extra)}, and the network has no such '
      'array: are its options those of the weights?'
    )
  return {rule.ours: _checked(rule, theirs, arrays, shapes) for rule in rules}


def ema_from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """The averages of a checkpoint as float32 by the paths of our network.

  Args:
    arrays: of a checkpoint: `ema.shadow_params.0`, ..., and `model`, which has
      what is not learnt.
    shapes: what our network has, by its paths.

  Raises:
    ValueError: if there are more or fewer averages than parameters, or as
      `from_torch`.
  """
  rules = make_rules(shapes)
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
    if (name := PREFIX.sub('', n)) in fixed
  }
  shadow = {name: arrays[found[i]] for i, name in enumerate(names)}
  return from_torch(kept | shadow, shapes)


def to_torch(arrays: Mapping[str, np.ndarray], prefix: str = '') -> Arrays:
  """Our arrays by PyTorch's names, after `prefix`, such as 'module.'."""
  rules = make_rules({path: array.shape for path, array in arrays.items()})
  return {prefix + rule.theirs: rule.write(arrays[rule.ours]) for rule in rules}


def ema_to_torch(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
  """Our arrays as their `shadow_params`."""
  rules = make_rules({path: array.shape for path, array in arrays.items()})
  return [rule.write(arrays[rule.ours]) for rule in rules if rule.learnt]


def wanted(names: Iterable[str], *, ema: bool) -> list[str]:
  """Of the names in a checkpoint those that weights or averages need."""
  kinds = (PREFIX, SHADOW) if ema else (PREFIX,)
  return [n for n in names if any(kind.match(n) for kind in kinds)]


def _place(path: str) -> tuple[str, str, str]:
  """'up.0.grow.skip.kernel' -> ('up.0.grow', 'skip', 'kernel')."""
  layer, _, leaf = path.rpartition('.')
  parent, _, part = layer.rpartition('.')
  if path == 'times.frequencies':
    return path, '', 'frequencies'
  return (parent, part, leaf) if part in INSIDE else (layer, '', leaf)


def _order(layer: str) -> tuple[int, ...]:
  try:
    return tuple(
      int(part) if part.isdigit() else ORDER.index(part)
      for part in layer.split('.')
    )
  except ValueError as error:
    raise ValueError(f'{layer} is no layer of an NCSN++') from error


def _rule(path: str, number: int, part: str, leaf: str, shapes: Shapes) -> Rule:
  """The rule of one array, in the layer of that number."""
  size, inside = len(shapes[path]), INSIDE.get(part, '')
  nin = inside.startswith('NIN')
  if part == 'skip' and len(shapes[path.replace('bias', 'kernel')]) == 2:
    inside, nin = 'NIN_0', True
  names = {'kernel': 'W', 'bias': 'b'} if nin else {'bias': 'bias'}
  theirs = 'W' if leaf == 'frequencies' else names.get(leaf, 'weight')
  axes = {1: (0,), 2: (0, 1) if nin else (1, 0), 4: (2, 3, 1, 0)}[size]
  return Rule(
    path,
    '.'.join(filter(None, ('all_modules', str(number), inside, theirs))),
    axes,
    negative=_is_answer(path, shapes),
    learnt=leaf != 'frequencies',
  )


def _is_answer(path: str, shapes: Shapes) -> bool:
  """Whether the velocity is a sum of such arrays' results."""
  ends = 'last.' if any(p.startswith('last.') for p in shapes) else 'up.'
  return path.startswith(ends) and '.layers.2.' in f'.{path}'


def _checked(
  rule: Rule,
  theirs: Mapping[str, str],
  arrays: Mapping[str, np.ndarray],
  shapes: Shapes,
) -> np.ndarray:
  if rule.theirs not in theirs:
    raise ValueError(f'these weights of NCSN++ have no {rule.theirs}')
  array = arrays[theirs[rule.theirs]]
  wanted = rule.write(np.empty(shapes[rule.ours])).shape
  if array.shape != wanted:
    raise ValueError(
      f'these weights of NCSN++ have {rule.theirs} of shape '
      f'{list(array.shape)}, and in the network it is {list(wanted)}'
    )
  return rule.read(array)


def _check_once(names: list[str]) -> None:
  twice = {name for name in names if names.count(name) > 1}
  if twice:
    raise ValueError(f'{min(twice)} is there twice')
