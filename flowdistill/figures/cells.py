"""Cells of tables: numbers and texts as people read them."""

import dataclasses
import json
from typing import Any

NOT_FINITE = ('nan', 'inf', '-inf')  # how JSON has them
LONGEST = 160  # letters of a cell


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell of a table.

  Attributes:
    text: what it shows.
    key: the number that it is sorted by, '' for a text.
    is_number: whether it is a number.
    about: what is said when it is pointed at.
  """

  text: str = ''
  key: str = ''
  is_number: bool = False
  about: str = ''


def cell(value: Any, style: str = '') -> Cell:
  """A cell of a table; integers are whole without a style; texts are cut."""
  if value is None or value == '':
    return Cell()
  if (known := number(value)) is not None:
    key = repr(known).replace('inf', 'Infinity')  # as a script reads it
    style = style or ('.0f' if known.is_integer() else '.6g')
    return Cell(format(known, style), key, True)
  text = value if isinstance(value, str) else json.dumps(value)
  return Cell(cut(text))


def number(value: Any) -> float | None:
  """A number in a row, also 'nan' and 'inf'; None for anything else."""
  if isinstance(value, bool) or not isinstance(value, int | float | str):
    return None
  return (
    None if isinstance(value, str) and value not in NOT_FINITE else float(value)
  )


def cut(text: str) -> str:
  """A text of at most 160 letters, with … for what is left out."""
  return text if len(text) <= LONGEST else f'{text[: LONGEST - 1]}…'
