"""What is listed of a folder or an archive, and what is left out."""

import collections
from collections.abc import Callable

from flowdistill.datasets.formats import (
  HEAD,
  begins_as_picture,
  ending_of,
  is_hidden,
  is_picture,
)

SAID = 5  # names of a kind that are said
UNREADABLE = 'unreadable'
UNREAD = (OSError, ValueError)  # what a file raises that cannot be opened


class Catalogue:
  """The names of the pictures, and why other files are left out.

  Attributes:
    names: of the pictures, with / between folders; `close()` sorts them.
    files: how many files there are, pictures or not.
    links: how many of the pictures are links to a file.
    left: reason -> how many files are left out for it.
    twins: a link to a folder that is listed without it -> that folder; '' for
      one that contains the link, and thus a loop.
    tops: the folders at the top, whether or not there is a picture in them.
    unread: the names of files of which only the content could tell what they
      are, and which cannot be read.
  """

  def __init__(self) -> None:
    self.names: list[str] = []
    self.files, self.links = 0, 0
    self.left: collections.Counter[str] = collections.Counter()
    self.twins: dict[str, str] = {}
    self.tops: set[str] = set()
    self.unread: list[str] = []

  def add(
    self, name: str, peek: Callable[[int], bytes], *, link: bool = False
  ) -> None:
    """Lists a regular file, or counts why it is left out.

    Args:
      name: with / between folders.
      peek: returns the first bytes, and is called only if they must tell.
      link: whether it is a link to that file.
    """
    self.files += 1
    if '/' in name and not is_hidden(name):
      self.tops.add(name.lstrip('/').split('/')[0])
    if reason := why_not(name, peek):
      self.left[reason] += 1
      self.unread += [name] * (reason == UNREADABLE)
    else:
      self.names.append(name)
      self.links += link

  def leave(self, reason: str) -> None:
    """Counts a file that is left out."""
    self.files += 1
    self.left[reason] += 1

  def close(self) -> None:
    """Sorts the names."""
    self.names.sort()

  def summary(self) -> str:
    """'18 pictures of 20 files; left out: 2 .txt'."""
    pictures = counted(len(self.names), 'picture')
    text = f'{pictures} of {counted(self.files, "file")}'
    if self.links:
      text += f', {self.links:,} of them by links'
    left = self.left_out()
    return f'{text}; left out: {", ".join(left)}' if left else text

  def left_out(self) -> list[str]:
    """What is left out: ['2 .txt', '1 hidden']."""
    reasons = sorted(self.left.items(), key=lambda item: (-item[1], item[0]))
    left = [f'{n:,} {what}' for what, n in reasons]
    if self.twins:
      names = ', '.join(map(repr, sorted(self.twins)[:SAID]))
      more = ', ...' if len(self.twins) > SAID else ''
      links = counted(len(self.twins), 'link')
      left.append(f'{links} to folders that are listed already ({names}{more})')
    return left


def counted(n: int, noun: str) -> str:
  """'1 picture', '2 pictures'."""
  if n != 1:
    noun += 'es' if noun.endswith('s') else 's'
  return f'{n:,} {noun}'


def why_not(name: str, peek: Callable[[int], bytes]) -> str:
  """Why a file is not listed; '' if it is a picture."""
  if is_hidden(name):
    return 'hidden'
  if (known := is_picture(name)) is None:
    try:
      known = begins_as_picture(peek(HEAD))
    except UNREAD:
      return UNREADABLE
  return '' if known else ending_of(name) or 'without an ending'
