"""GenEval: whether pictures show the objects that their prompts ask for.

A prompt asks for objects by kind, number, colour and relative position. What a
detector finds in a picture is compared with it; the score is the mean over six
categories of the share of pictures that are correct.

Source: Ghosh, Hajishirzi, Schmidt, "GenEval: An Object-Focused Framework for
Evaluating Text-to-Image Alignment" (2023), https://arxiv.org/abs/2310.11513,
and, for the rule of positions, its code.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

TAGS = (
  'single_object',
  'two_object',
  'counting',
  'colors',
  'position',
  'color_attr',
)
"""The six categories, as the files of GenEval spell them."""
POSITIONS = ('left of', 'right of', 'above', 'below')
THRESHOLD = 0.1  # of the sum of two extents, within which objects are level
LEVEL = 1e-3  # pixels


@dataclasses.dataclass(frozen=True)
class Detection:
  """An object in a picture.

  Attributes:
    kind: such as 'circle'.
    colour: such as 'red'.
    box: left, top, right, bottom in pixels.
    confidence: the higher, the earlier the object is taken.
  """

  kind: str
  colour: str
  box: tuple[float, float, float, float]
  confidence: float = 1.0


@dataclasses.dataclass(frozen=True)
class Clause:
  """Objects that a prompt asks for.

  Attributes:
    kind: of them.
    count: at least so many.
    colour: of each; None for any.
    position: (one of POSITIONS, number of the clause whose objects these are
      left of, ...); None for any.
  """

  kind: str
  count: int = 1
  colour: str | None = None
  position: tuple[str, int] | None = None


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt, and what a picture of it must show.

  Attributes:
    tag: one of TAGS.
    text: the words.
    include: all of these must hold.
    exclude: none of these may: so many objects of a kind.
  """

  tag: str
  text: str
  include: tuple[Clause, ...]
  exclude: tuple[Clause, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Whether a picture is correct, and why not ('' if it is)."""

  correct: bool
  reason: str = ''


def judge(prompt: Prompt, found: Iterable[Detection]) -> Verdict:
  """Compares the objects of a picture with its prompt.

  Of each kind the `count` most confident objects are taken: all of them must
  have the colour, and be in the position to all objects of the other clause.
  More objects than are asked for are no fault, unless they are excluded.
  """
  by_kind: dict[str, list[Detection]] = {}
  for each in sorted(found, key=lambda one: -one.confidence):
    by_kind.setdefault(each.kind, []).append(each)
  groups: list[Sequence[Detection] | None] = []
  reasons: list[str] = []
  for clause in prompt.include:
    taken = by_kind.get(clause.kind, [])[: clause.count]
    fault = _fault(clause, taken, groups)
    groups.append(None if fault else taken)
    reasons += [fault] if fault else []
  for clause in prompt.exclude:
    if (number := len(by_kind.get(clause.kind, []))) >= clause.count:
      reasons.append(f'expected {clause.kind}<{clause.count}, found {number}')
  return Verdict(not reasons, '\n'.join(reasons))


def _fault(
  clause: Clause,
  taken: Sequence[Detection],
  groups: Sequence[Sequence[Detection] | None],
) -> str:
  """What of a clause does not hold; '' if all does."""
  wanted = f'{clause.kind}>={clause.count}'
  if len(taken) < clause.count:
    return f'expected {wanted}, found {len(taken)}'
  colours = [each.colour for each in taken]
  if clause.colour is not None and {*colours} != {clause.colour}:
    return f'expected {clause.colour} {wanted}, found {", ".join(colours)}'
  if clause.position is None:
    return ''
  where, number = clause.position
  target = groups[number]
  if target is None:
    return f'no target for {clause.kind} to be {where}'
  for one in taken:
    for other in target:
      if where not in (true := relations(one.box, other.box)):
        what = ' and '.join(sorted(true)) or 'level with the'
        return f'expected {clause.kind} {where} target, found {what} target'
  return ''


def relations(one: Sequence[float], other: Sequence[float]) -> set[str]:
  """Where a box is relative to another: a subset of POSITIONS, maybe empty.

  An offset of the centres along an axis counts as far as it is larger than a
  tenth of the sum of both extents, and if it is then more than half of the
  distance of the centres.
  """
  boxes = np.asarray([one, other], np.float64).reshape(2, 2, 2)
  extents = np.abs(boxes[:, 1] - boxes[:, 0]).sum(axis=0)
  offset = boxes[0].mean(axis=0) - boxes[1].mean(axis=0)
  beyond = np.maximum(np.abs(offset) - THRESHOLD * extents, 0) * np.sign(offset)
  if np.all(np.abs(beyond) < LEVEL):
    return set()
  dx, dy = beyond / np.linalg.norm(offset)
  held = (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5)
  return {name for name, holds in zip(POSITIONS, held, strict=True) if holds}


def scores(tags: Sequence[str], correct: Sequence[bool]) -> dict[str, float]:
  """The share of correct pictures by category, and their mean, `overall`.

  Args:
    tags: the category of each picture.
    correct: whether it is.

  Raises:
    ValueError: if there is no picture.
  """
  if not tags:
    raise ValueError('scores are of at least one picture')
  by_tag: dict[str, list[bool]] = {}
  for tag, each in zip(tags, correct, strict=True):
    by_tag.setdefault(tag, []).append(bool(each))
  shares = {tag: float(np.mean(by_tag[tag])) for tag in _in_order(by_tag)}
  return {'overall': float(np.mean([*shares.values()])), **shares}


def _in_order(tags: Iterable[str]) -> list[str]:
  """The known tags as in TAGS, then others."""
  listed = list(tags)
  known = [tag for tag in TAGS if tag in listed]
  return known + [tag for tag in listed if tag not in TAGS]


def to_record(prompt: Prompt) -> dict[str, Any]:
  """A prompt as a line of GenEval's evaluation_metadata.jsonl."""
  record: dict[str, Any] = {
    'tag': prompt.tag,
    'include': [_to_record(clause) for clause in prompt.include],
  }
  if prompt.exclude:
    record['exclude'] = [_to_record(clause) for clause in prompt.exclude]
  return {**record, 'prompt': prompt.text}


def _to_record(clause: Clause) -> dict[str, Any]:
  record: dict[str, Any] = {'class': clause.kind, 'count': clause.count}
  if clause.colour is not None:
    record['color'] = clause.colour
  if clause.position is not None:
    record['position'] = list(clause.position)
  return record


def of_record(record: Mapping[str, Any]) -> Prompt:
  """The inverse of `to_record`.

  Raises:
    ValueError: naming the key that is missing, unknown or malformed.
  """
  check_keys(record, {'tag', 'include', 'prompt'}, {'exclude'})
  for key in ('tag', 'prompt'):
    if not isinstance(record[key], str) or not record[key]:
      raise ValueError(f'{key} = {record[key]!r} must be a text')
  include = _clauses(record, 'include')
  if not include:
    raise ValueError('include = [] must have an object')
  return Prompt(
    record['tag'], record['prompt'], include, _clauses(record, 'exclude')
  )


def check_keys(
  record: Mapping[str, Any], needed: set[str], optional: set[str]
) -> None:
  """Raises ValueError for a key that is missing or unknown."""
  for key in sorted(needed - record.keys()):
    raise ValueError(f'it has no {key!r}')
  for key in sorted(record.keys() - needed - optional):
    raise ValueError(f'{key!r} must be one of {sorted(needed | optional)}')


def _clauses(record: Mapping[str, Any], key: str) -> tuple[Clause, ...]:
  listed = record.get(key, [])
  if not isinstance(listed, list):
    raise ValueError(f'{key} = {listed!r} must be a list')
  return tuple(_clause(each, f'{key}[{k}]', k) for k, each in enumerate(listed))


def _clause(record: Any, where: str, number: int) -> Clause:
  """A clause; its position may name an earlier one."""
  if not isinstance(record, Mapping):
    raise ValueError(f'{where} = {record!r} must be an object')
  check_keys(record, {'class', 'count'}, {'color', 'position'})
  count, position = record['count'], record.get('position')
  if not isinstance(count, int) or isinstance(count, bool) or count < 1:
    raise ValueError(f'{where}.count = {count!r} must be at least 1')
  match position:
    case None:
      pass
    case [str(what), int(of)] if what in POSITIONS and 0 <= of < number:
      position = (what, of)
    case _:
      raise ValueError(
        f'{where}.position = {position!r} must be one of {[*POSITIONS]} and '
        'the number of an earlier object'
      )
  return Clause(record['class'], count, record.get('color'), position)
