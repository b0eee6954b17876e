"""Mutants: copies of a module with one small change each, and a sample of them.

The changes are mutmut's: + to −, an argument omitted, a number increased
by one, a condition negated, and so on.
"""

import collections
import dataclasses
import hashlib
import itertools
import pathlib
import re
from collections.abc import Iterable, Iterator

import libcst as cst
from mutmut.mutation.mutators import mutation_operators

# Types have no effect, and tests need not check the words of an error.
SKIPPED = cst.Annotation | cst.Decorator | cst.Raise
ALIAS = cst.Name | cst.Attribute | cst.Subscript  # of a type, such as Array


@dataclasses.dataclass(frozen=True)
class Mutant:
  """A module with one change, identified by its path and the change."""

  path: str
  change: str
  line: int
  source: str

  @property
  def key(self) -> tuple[str, str]:
    return self.path, self.change

  def __str__(self) -> str:
    return f'{self.path}:{self.line}  {self.change}'


def mutants_of(path: str) -> Iterator[Mutant]:
  """All mutants of the module in a file."""
  text, end = pathlib.Path(path).read_text('utf-8'), 0
  module = cst.MetadataWrapper(cst.parse_module(text)).module  # no node twice
  seen = collections.Counter()
  for statement in module.body:
    code, edits = module.code_for_node(statement), Edits()
    start = text.index(code, end)
    end = start + len(code)
    statement.visit(edits)
    name = getattr(getattr(statement, 'name', None), 'value', 'module')
    copies = (statement.deep_replace(*edit) for edit in edits.found)
    for mutated in dict.fromkeys(map(module.code_for_node, copies)):
      above, change = _difference(code, mutated)
      change = f'{name}: {change}'
      seen[change] += 1
      yield Mutant(
        path,
        change if seen[change] == 1 else f'{change} ({seen[change]})',
        text.count('\n', 0, start) + above + 1,
        text[:start] + mutated + text[end:],
      )


class Edits(cst.CSTVisitor):
  """Collects pairs: a node, and its replacement by mutmut."""

  def __init__(self) -> None:
    super().__init__()
    self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []

  def on_visit(self, node: cst.CSTNode) -> bool:
    if isinstance(node, SKIPPED) or _only_names_a_type(node):
      return False
    for kind, operator in mutation_operators:
      if isinstance(node, kind):
        self.found += [(node, new) for new in operator(node)]
    return True


def _only_names_a_type(node: cst.CSTNode) -> bool:
  match node:
    case cst.ClassDef(bases=[cst.Arg(value=cst.Name('Protocol'))]):
      return True
    case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(name))]):
      alias = isinstance(node.value, ALIAS)
      return alias and bool(re.match('[A-Z][a-z]', name))
  return False


def _difference(old: str, new: str) -> tuple[int, str]:
  """(number of equal lines above it, 'old lines -> new lines')."""
  a, b = old.splitlines(), new.splitlines()
  pairs = zip(a, b, strict=False)
  above = sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))
  a, b = a[above:], b[above:]
  while a and b and a[-1] == b[-1]:
    a, b = a[:-1], b[:-1]
  return above, ' -> '.join(' '.join(' '.join(x).split()) for x in (a, b))


def sample(mutants: Iterable[Mutant], size: int, seed: int) -> list[Mutant]:
  """The same fraction of every module; larger samples contain smaller ones."""
  modules = collections.defaultdict(list)
  for mutant in mutants:
    modules[mutant.path].append(mutant)

  def lot(mutant: Mutant) -> bytes:
    return hashlib.sha256(f'{seed} {mutant.key}'.encode()).digest()

  ranks = {
    mutant.key: (rank + 0.5) / len(members)
    for members in modules.values()
    for rank, mutant in enumerate(sorted(members, key=lot))
  }
  everyone = itertools.chain(*modules.values())
  return sorted(everyone, key=lambda m: (ranks[m.key], lot(m)))[:size]
