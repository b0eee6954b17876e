"""Columns of figures that can be compared.

What says how examples were drawn (DRAWN) tells rows apart. Everything else that
is no figure says how they were measured: figures for which it differs, such as
the number of samples or the reference, have columns of their own.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flowdistill.evaluators.signature import Row
from flowdistill.figures.cells import cut, number
from flowdistill.figures.table import BIAS, DRAWN, MARK, TRAINED_ON, column
from flowdistill.workdir.results import NAMED

# Numbers, but no figures.
MEASURED = ('count', 'seeds', 'sets', 'dimensions', 'prompts')
SPREADS = ('_spread', '_error', '_deviation')  # of a figure
LEAST, MOST = '_least', '_most'  # of the figure over seeds
HASH, LETTERS = 'sha256', 12  # end of the keys of hashes, and what is shown
Key = tuple[str, str]
"""A figure, and how it was measured as JSON."""


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of figures.

  Attributes:
    name: the key in the rows.
    title: of the figure.
    measured: how it was measured, as JSON texts.
    about: what of that tells it from other columns.
    style: format of a number.
  """

  name: str
  title: str
  measured: Mapping[str, str]
  about: str
  style: str

  @property
  def provenance(self) -> str:
    """'samples = 3594; reference = digits', in full."""
    return '; '.join(f'{k} = {_text(v)}' for k, v in self.measured.items())

  @property
  def trained_on(self) -> str:
    """The losses that asked the feature network; '' if none did."""
    return trained_on(self.measured)


def figures(row: Row) -> dict[str, float]:
  """The figures of a row."""
  about = {*DRAWN, *NAMED, *MEASURED, TRAINED_ON}
  numbers = {k: number(v) for k, v in row.items() if k not in about}
  return {key: value for key, value in numbers.items() if value is not None}


def measured(row: Row) -> dict[str, str]:
  """How the figures of a row were measured: key -> JSON text."""
  found = figures(row)
  return {
    key: _json(value)
    for key, value in row.items()
    if key not in DRAWN and key not in found
  }


def _json(value: Any) -> str:
  """JSON; 600.0 and 600 are alike."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def key_of(name: str, how: Mapping[str, str]) -> Key:
  """What two figures share if they may share a column."""
  return name, json.dumps(how, sort_keys=True)


def keyed(row: Row) -> dict[Key, float]:
  """The figures of a row by their column."""
  how = measured(row)
  return {key_of(name, how): value for name, value in figures(row).items()}


def columns_of(rows: Sequence[Row]) -> dict[Key, Column]:
  """The columns of figures of rows, in their order."""
  found: dict[Key, Column] = {}
  for row in rows:
    how = measured(row)
    for name in figures(row):
      title, style = column(name)
      title = title[:1].upper() + title[1:]
      found.setdefault(key_of(name, how), Column(name, title, how, '', style))
  every = list(found.values())
  return {
    key: dataclasses.replace(each, about=_apart(each, every))
    for key, each in found.items()
  }


def beside(key: Key, columns: Collection[Key]) -> bool:
  """Whether a figure is the spread, the bias or an end of another one.

  As kid_error is of kid, and kernel_error_digits of kernel_digits.
  """
  name, how = key
  return any(
    (name[:at] + name[at + len(end) :], how) in columns
    for end in (*SPREADS, BIAS, LEAST, MOST)
    for at in _places(name, end)
  )


def _places(name: str, end: str) -> Iterator[int]:
  """Where '_error' is in 'kernel_error_digits', as whole words."""
  at = name.find(end, 1)
  while at > 0:
    if name[at + len(end) :][:1] in ('', '_'):
      yield at
    at = name.find(end, at + 1)


def found_beside(name: str, ends: Iterable[str], known: Collection[str]) -> str:
  """The name of the spread or bias of a figure that is known; '' if none is.

  It ends with one of `ends`, or has it before the name of the network.
  """
  cuts = [len(name), *(k for k, letter in enumerate(name) if letter == '_')]
  names = (f'{name[:k]}{end}{name[k:]}' for end in ends for k in cuts)
  return next((each for each in names if each in known), '')


def differing(columns: Iterable[Column]) -> dict[str, list[str]]:
  """What of how columns were measured differs: key -> a text for each."""
  every = [each.measured for each in columns]
  keys = dict.fromkeys(key for each in every for key in each)
  return {
    key: [said(key, each) for each in every]
    for key in keys
    if len({each.get(key) for each in every}) > 1
  }


def said(key: str, how: Mapping[str, str]) -> str:
  """'600' for 'samples'; hashes are shortened, '–' is what is not known."""
  if key not in how:
    return '–'
  text = _text(how[key])
  return text[:LETTERS] if key.endswith(HASH) else text


def _text(value: str) -> str:
  known = json.loads(value)
  return (known or 'none') if isinstance(known, str) else value


def trained_on(how: Mapping[str, str]) -> str:
  """The losses that asked the feature network; '' if none did."""
  known = json.loads(how.get(TRAINED_ON, '""'))
  return known if isinstance(known, str) else ''


def mark_note(losses: Iterable[str]) -> str:
  """What the mark says, below a table; '' if nothing is marked."""
  named = ', '.join(dict.fromkeys(filter(None, losses)))
  return named and (
    f'{MARK} The feature network, or one of its features, was in a training '
    f'loss of the run ({cut(named)}): the figure favours that run.'
  )


def _apart(one: Column, columns: Sequence[Column]) -> str:
  """'samples = 500': what differs from columns of the same figure."""
  same = [each for each in columns if each.name == one.name]
  return cut(
    ', '.join(f'{k} = {said(k, one.measured)}' for k in differing(same))
  )
