"""Which emoji show the same figure: those that differ in skin tone or gender.

A figure is what is left of a sequence of characters without skin tones, the
signs of gender and the arrow of direction, with a person for a man or a woman
and a child for a boy or a girl. It is independent of names, and thus of the
version of Unicode.
"""

import itertools
from collections.abc import Sequence

from flowdistill.datasets.emoji_font import Characters
from flowdistill.datasets.emoji_names import JOINER

Parts = tuple[Characters, ...]
TONES = range(0x1F3FB, 0x1F400)
SIGNS = ((0x2640,), (0x2642,), (0x27A1,))  # female, male, facing right
PERSON, CHILD, OLD, HAND = 0x1F9D1, 0x1F9D2, 0x1F9D3, 0x1F91D
NEUTRAL = {
  0x1F468: PERSON,  # man
  0x1F469: PERSON,  # woman
  0x1F466: CHILD,  # boy
  0x1F467: CHILD,  # girl
  0x1F474: OLD,  # old man
  0x1F475: OLD,  # old woman
}
HEART, KISS = 0x2764, 0x1F48B
TWO = ((PERSON,), (HAND,), (PERSON,))
# Figures of several people have a character of their own, but for skin tones.
PEOPLE: dict[Parts, Parts] = {
  ((0x1F46B,),): TWO,
  ((0x1F46C,),): TWO,
  ((0x1F46D,),): TWO,
  ((0x1F46A,),): ((PERSON,), (PERSON,), (CHILD,)),
  ((0x1F48F,),): ((PERSON,), (HEART,), (KISS,), (PERSON,)),
  ((0x1F491,),): ((PERSON,), (HEART,), (PERSON,)),
  ((0x1FAF1,), (0x1FAF2,)): ((HAND,),),  # two hands that shake
}


def figure_of(spelt: Sequence[Characters]) -> str:
  """The figure of a glyph, as '1F9D1-1F692' for all firefighters.

  Args:
    spelt: the sequences that are drawn as the glyph; some fonts have one from
      right to left as well.
  """
  return min(map(_figure, spelt))


def _figure(sequence: Characters) -> str:
  groups = itertools.groupby(sequence, lambda code: code == JOINER)
  whole = tuple(tuple(codes) for joiner, codes in groups if not joiner)
  plain = (tuple(NEUTRAL.get(c, c) for c in p if c not in TONES) for p in whole)
  parts = tuple(part for part in plain if part and part not in SIGNS)
  parts = PEOPLE.get(parts, parts) or whole
  parts = min(parts, parts[::-1])
  return '-'.join(f'{code:X}' for part in parts for code in part)
