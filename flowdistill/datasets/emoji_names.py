"""Names, groups and subgroups of emoji: Unicode's emoji-test.txt.

A sequence that a newer font has and the file lacks is named after its parts, as
'person walking: right arrow', and belongs to the group of its first part. The
letters of flags and the keys of keycaps, which Unicode counts as components,
have the names of their characters.

Source: Davis, Holbrook, "Unicode Emoji", https://unicode.org/reports/tr51.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence

from flowdistill.datasets.emoji_font import VARIATION, Characters
from flowdistill.files.regular import read_regular

INSTALL = "'apt-get install unicode-data' on Debian and Ubuntu"
LINE = re.compile(r'([0-9A-F ]+); *[a-z-]+ *# \S+ (?:E\d+\.\d+ )?(.+)')
HEAD = re.compile(r'# (group|subgroup): (.+)')
END = '#EOF'
JOINER, FLAG, TAG, CANCEL = 0x200D, 0x1F3F4, 0xE0000, 0xE007F
COMPONENT, FLAGS = ('Component', 'other'), ('Flags', 'subdivision-flag')


@dataclasses.dataclass(frozen=True)
class Name:
  """What Unicode says of an emoji: 'grinning face', its group and subgroup."""

  name: str
  group: str
  subgroup: str


class Names:
  """The names of sequences of characters.

  Args:
    listed: sequence without U+FE0F -> its name, in the order of the file.
  """

  def __init__(self, listed: dict[Characters, Name]):
    self.listed = listed
    self._names = [*listed.values()]
    self._place = {sequence: i for i, sequence in enumerate(listed)}
    self._longest = max(map(len, listed), default=1)

  def of(self, spelt: Sequence[Characters]) -> Name:
    """The name of a glyph that several sequences are drawn as.

    All that are listed count, as one flag may be that of two countries, such as
    'flag: Ceuta & Melilla or flag: Spain'; if none is, that which begins with
    the longest listed one.
    """
    places = sorted(self._place[s] for s in spelt if s in self.listed)
    if places:
      found = [self._names[place] for place in places]
      name = ' or '.join(dict.fromkeys(each.name for each in found))
      return dataclasses.replace(found[0], name=name)
    return self._composed(min(spelt, key=self._order))

  def _order(self, sequence: Characters) -> tuple[int, int]:
    """A font also has ligatures from right to left, sign before figure."""
    first = next(self._parts(sequence))
    return -len(first), self._place.get(first, len(self._place))

  def _parts(self, sequence: Characters) -> Iterator[Characters]:
    """The longest listed sequences, one after the other, without joiners."""
    while sequence:
      lengths = range(min(len(sequence), self._longest), 1, -1)
      fits = (n for n in lengths if sequence[:n] in self.listed)
      n = next(fits, 1)
      if sequence[:n] != (JOINER,):
        yield sequence[:n]
      sequence = sequence[n:]

  def _composed(self, sequence: Characters) -> Name:
    if sequence[0] == FLAG and len(sequence) > 2 and sequence[-1] == CANCEL:
      code = ''.join(chr(c - TAG) for c in sequence[1:-1]).upper()
      return Name(f'flag: {code[:2]}-{code[2:]}', *FLAGS)
    parts = [self._part(part) for part in self._parts(sequence)]
    name, *more = [part.name for part in parts]
    if more:
      name += (', ' if ':' in name else ': ') + ', '.join(more)
    return Name(name, parts[0].group, parts[0].subgroup)

  def _part(self, part: Characters) -> Name:
    return self.listed.get(part) or Name(spoken(part[0]), *COMPONENT)


def spoken(code: int) -> str:
  """The name of a character, in small letters; 'u+1f600' if it has none."""
  return unicodedata.name(chr(code), f'U+{code:04X}').lower()


def read_names(path: str) -> Names:
  """The names in a file emoji-test.txt of Unicode.

  Raises:
    ValueError: if it cannot be read, is another file, or is cut.
  """
  try:
    lines = read_regular(path).decode('utf-8-sig').splitlines()
  except FileNotFoundError as error:
    raise ValueError(
      f'names = {path!r} is not there: install it by {INSTALL}, name another '
      'emoji-test.txt of https://unicode.org/Public/emoji, or set names = none '
      'and classes = none for names of characters without classes'
    ) from error
  except (OSError, ValueError) as error:
    raise ValueError(f'names = {path!r} cannot be read: {error}') from error
  if not any(line.startswith(END) for line in lines[-3:]):
    raise ValueError(
      f'names = {path!r} must be a whole emoji-test.txt of Unicode: it does '
      f'not end in {END!r}, so that it is cut or another file'
    )
  listed = {}
  head = {'group': '', 'subgroup': ''}
  for number, line in enumerate(lines, 1):
    if found := HEAD.fullmatch(line.strip()):
      head[found[1]] = found[2]
    elif line.strip() and not line.startswith('#'):
      sequence, name = entry(line, f'names = {path!r}, line {number}')
      listed.setdefault(sequence, Name(name, head['group'], head['subgroup']))
  if not listed:
    raise ValueError(
      f'names = {path!r} must be an emoji-test.txt of Unicode: it has no emoji'
    )
  return Names(listed)


def entry(line: str, where: str) -> tuple[Characters, str]:
  """(characters without U+FE0F, name) of a line.

  Raises:
    ValueError: if it is no such line.
  """
  if not (found := LINE.fullmatch(line.strip())):
    raise ValueError(
      f"{where} = {line[:60]!r} must be like '1F600 ; fully-qualified # "
      "😀 E1.0 grinning face'"
    )
  codes = [int(code, 16) for code in found[1].split()]
  return tuple(c for c in codes if c != VARIATION), found[2]
