"""Rows of evaluators, as text and as scalars for TensorBoard."""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax

from flowdistill.evaluators.signature import Row
from flowdistill.files.json_reader import fields, read_json, typed
from flowdistill.training.json_files import jsonable

TEXTS = (
  'model',
  'sampler',
  'options',
  'weights',
  'ema',
  'features',
  'output',
  'metrics',
  'weights_sha256',
  'resize',
  'uint8',
  'codec',
  'of_sha256',
  'trained_on',
  'reference',
  'reference_sha256',
  'validation',
  'validation_sha256',
  'dtype',
  'code',
)
NAMED = (  # keys that identify a row; the others are figures
  *TEXTS,
  'nfe',
  'adaptive',
  't',
  'steps',
  'samples',
  'sets',
  'seed',
  'step',
)
SPELLED = ('nan', 'inf', '-inf')  # by `jsonable`


def read_rows(path: pathlib.Path) -> list[Row]:
  """The rows of a results.json; a figure is a float again, even NaN.

  Raises:
    DamagedFileError: if it has another content.
  """
  rows = read_json(path, list)
  return [_row(typed(row, dict, path, 'a row'), path) for row in rows]


def _row(row: Row, path: pathlib.Path) -> Row:
  fields(row, {'model': str}, path)
  return {key: _value(key, value, path) for key, value in row.items()}


def _value(key: str, value: Any, path: pathlib.Path) -> Any:
  if value is None or (key == 'adaptive' and type(value) is bool):
    return value
  if key in TEXTS:
    return typed(value, str, path, repr(key))
  return float(value) if value in SPELLED else typed(value, float, path, key)


def merged(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
  """Rows of a file with new ones, which replace those of the same measurement.

  That is the same model, sampler, step, ..., and the same figures.
  """
  new = [jsonable(row) for row in rows]
  again = {_measurement(row) for row in new}
  kept = [row for row in before if _measurement(row) not in again]
  return sorted([*kept, *new], key=lambda row: row.get('step', 0))


def _measurement(row: Row) -> tuple[str, ...]:
  about = {name: row.get(name) for name in NAMED}
  return (json.dumps(about), *sorted(row.keys() - about.keys()))


def say(text: str) -> None:
  """Prints a line, on the first host only."""
  if jax.process_index() == 0:
    print(text, flush=True)


def describe(row: Row) -> str:
  """'student gamma 4 NFE (gamma=0.5): frechet_digits 1.23, ...'."""
  spelled = {
    'model': '{}',
    'sampler': '{}',
    'nfe': '{:.4g} NFE',
    't': 't = {:g}',
    'options': '({})',
    'weights': 'by {}',
  }
  head = [form.format(row[k]) for k, form in spelled.items() if k in row]
  figures = [f'{k} {v:.4g}' for k, v in row.items() if k not in NAMED]
  return f'{" ".join(head)}: {", ".join(figures)}'


def flat(rows: Sequence[Row]) -> dict[str, float]:
  """'student/gamma_4_gamma_0.5/frechet_digits' -> figure, for TensorBoard.

  The NFE of an adaptive sampler is a figure, so that it changes no name.
  """
  named: dict[str, float] = {}
  for row in rows:
    adaptive = ('nfe',) if 'adaptive' in row else ()
    for name, value in row.items():
      if name not in NAMED or name in adaptive:
        named['/'.join([*_path(row), name])] = float(value)
  return named


def _path(row: Row) -> list[str]:
  """['student', 'gamma_4_gamma_0.5'], or ['student'] without a sampler."""
  nfe = None if 'adaptive' in row else row.get('nfe')
  time = f't_{row["t"]}' if 't' in row else None
  how = [row.get('sampler'), nfe, time, row.get('options')]
  words = [re.sub(r'[^\w.-]+', '_', f'{w}').strip('_') for w in how if w]
  return [row['model'], '_'.join(words)] if words else [row['model']]
