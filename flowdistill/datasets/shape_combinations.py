"""Which combinations of kinds, colours and numbers are held out of training.

With the numbers of kinds and colours in their lists, from 0 on, these are:

- **a colour of a kind** if colour + kind is divisible by 8: 8 of 64 pairs, one
  for every kind and every colour;
- **a count of a kind** if count + kind is: 3 of the 24 for counts of 2 to 4;
- **two kinds in one picture** if their numbers differ by 4: 4 of 28;
- **a binding**, the kinds and colours of two shapes of different kinds, if the
  sum of all four numbers leaves 4 when divided by 8, and hence the same kinds
  with their colours exchanged, too.

Training shows none of them. A picture for validation shows the combination
that its category is about, and none of the three others.
"""

from collections.abc import Sequence

from flowdistill.datasets.shape_kinds import COLOURS, KINDS

PERIOD = len(KINDS)
COLOURED, COUNTED, TOGETHER, BOUND = 'coloured', 'counted', 'together', 'bound'
ABOUT = {
  'single_object': COLOURED,
  'two_object': TOGETHER,
  'counting': COUNTED,
  'colors': COLOURED,
  'position': TOGETHER,
  'color_attr': BOUND,
}
"""Category -> the combination that is new in a picture for validation."""
KIND = {name: k for k, name in enumerate(KINDS)}
COLOUR = {name: k for k, name in enumerate(COLOURS)}


def belongs(
  tag: str, kinds: Sequence[str], colours: Sequence[str], split: str
) -> bool:
  """Whether shapes may be in a picture of a split.

  Args:
    tag: the category of the picture.
    kinds: of its shapes.
    colours: of its shapes, in the same order.
    split: 'train', 'validation' or 'all', which has both, and others.
  """
  if split == 'all':
    return True
  wanted = {ABOUT[tag]} if split == 'validation' else set[str]()
  return held_out(kinds, colours) == wanted


def held_out(kinds: Sequence[str], colours: Sequence[str]) -> set[str]:
  """What is held out among the combinations of the shapes of a picture."""
  k = [KIND[name] for name in kinds]
  c = [COLOUR[name] for name in colours]
  found = set[str]()
  if any((a + b) % PERIOD == 0 for a, b in zip(k, c, strict=True)):
    found.add(COLOURED)
  if len(k) > 1 and len({*k}) == 1 and (len(k) + k[0]) % PERIOD == 0:
    found.add(COUNTED)
  if len(k) == 2 and k[0] != k[1]:
    if abs(k[0] - k[1]) == PERIOD // 2:
      found.add(TOGETHER)
    if sum(k + c) % PERIOD == PERIOD // 2:
      found.add(BOUND)
  return found
