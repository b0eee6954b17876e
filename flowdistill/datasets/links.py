"""Names of the members of an archive, and where its links lead.

They are only names, even those that begin with / or ..: nothing is unpacked.
"""

import posixpath
from collections.abc import Mapping

HOPS = 40  # links in a row that are followed, as by Linux


def plain(name: str) -> str:
  """'a/b.png' for './a//b.png' and '../a/b.png'; others stay as they are."""
  if {'.', '..'}.isdisjoint(name.split('/')):
    return name
  name = posixpath.normpath(name)
  while name.startswith('../'):
    name = name[3:]
  return name


def beside(name: str, target: str) -> str:
  """The name of what a symbolic link leads to."""
  return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def followed(name: str, links: Mapping[str, str]) -> str:
  """The name that a member leads to in the end; of a link, if in a circle."""
  for _ in range(HOPS):
    if name not in links:
      break
    name = links[name]
  return name
