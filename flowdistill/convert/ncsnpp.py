"""NCSN++ weights of rectified flow and SlimFlow, both ways.

In PyTorch the layers are one list in the order in which they run, so that

  all_modules.6.Conv_0.weight

is in the seventh. Ours are grouped in levels, but run in the same order: the
rules follow from the paths of a network (see `rules.py`).

Time. Theirs is 1 at data. Our network mirrors it in the embedding, and the
rules negate the velocity, v_ours = −v, that is the layers that output it. Only
ours has embeddings of s, labels and scalars.

Source of the names: https://github.com/yang-song/score_sde_pytorch,
https://github.com/yuanzhi-zhu/SlimFlow.
"""

import re

from flowdistill.convert.names import check_once
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Rule, Shapes, order

NAMING = Naming('NCSN++', r'all_modules\.')
ONLY_OURS = re.compile(r'times\.of_s\.|label\.|scalars\.')
ORDER = (
  *('times', 'frequencies', 'first', 'second'),
  *('down', 'middle', 'up', 'last'),
  *('steps', 'block', 'attention', 'shrink', 'pyramid', 'grow'),
  *('resample', 'head', 'layers'),
)
"""The order in which children of one parent run; equal names go by number."""
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
"""The parts of a layer, in order."""


def make_rules(shapes: Shapes, side: int = 0) -> list[Rule]:
  """The rules of a network, in the order of their parameters.

  Args:
    shapes: path in our network -> shape.
    side: of the images; their names do not contain it.

  Raises:
    ValueError: if no NCSN++ has such a path, or two have the same name.
  """
  del side
  places = {p: _place(p) for p in shapes if not ONLY_OURS.match(p)}
  layers = sorted(
    {layer for layer, _, _ in places.values()},
    key=lambda layer: order(layer, ORDER, NAMING),
  )
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
  check_once([rule.theirs for rule in rules])
  return rules


def _place(path: str) -> tuple[str, str, str]:
  """'up.0.grow.skip.kernel' -> ('up.0.grow', 'skip', 'kernel')."""
  layer, _, leaf = path.rpartition('.')
  parent, _, part = layer.rpartition('.')
  if path == 'times.frequencies':
    return path, '', 'frequencies'
  return (parent, part, leaf) if part in INSIDE else (layer, '', leaf)


def _rule(path: str, number: int, part: str, leaf: str, shapes: Shapes) -> Rule:
  """The rule of one array, in the layer of this number."""
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
    negative=_is_output(path, shapes),
    learnt=leaf != 'frequencies',
  )


def _is_output(path: str, shapes: Shapes) -> bool:
  """Whether it belongs to a layer whose output is a term of the velocity."""
  ends = 'last.' if any(p.startswith('last.') for p in shapes) else 'up.'
  return path.startswith(ends) and '.layers.2.' in f'.{path}'
