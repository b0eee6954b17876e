"""The files of GenEval's own code: its prompts, and what its detector found.

Source: https://github.com/djghosh13/geneval, prompts/evaluation_metadata.jsonl,
and the results of evaluation/evaluate_images.py.
"""

import os
from collections.abc import Iterator
from typing import Any

from flowdistill.evaluators.geneval import columns
from flowdistill.evaluators.signature import Row
from flowdistill.files.json_reader import NAMES, parse_json
from flowdistill.files.regular import read_regular
from flowdistill.metrics.geneval import Prompt, of_record

RESULT = {'tag': str, 'prompt': str, 'correct': bool, 'metadata': str}
Path = str | os.PathLike[str]


def read_prompts(path: Path) -> list[Prompt]:
  """The prompts of an evaluation_metadata.jsonl, in their order.

  Raises:
    ValueError: that names the file, and the line and what is wrong with it.
  """
  prompts: list[Prompt] = []
  for where, record in _lines(path):
    try:
      prompts.append(of_record(record))
    except ValueError as error:
      raise ValueError(f'{where}: {error}') from error
  return prompts


def summarise_results(path: Path) -> Row:
  """What a results.jsonl says: the score, and its six categories.

  `images` and `prompts` are numbers; `correct_images` is the share of images,
  `correct_prompts` that of prompts with at least one correct image. `geneval`
  is the mean over categories of their shares of images, `geneval_counting`, ...

  Raises:
    ValueError: that names the file, and the line and what is wrong with it.
  """
  tags: list[str] = []
  correct: list[bool] = []
  by_prompt: dict[str, bool] = {}
  for where, record in _lines(path):
    _check(record, where)
    tags.append(record['tag'])
    correct.append(record['correct'])
    key = record['metadata']
    by_prompt[key] = by_prompt.get(key, False) or record['correct']
  return {
    'images': len(tags),
    'prompts': len(by_prompt),
    'correct_images': sum(correct) / len(correct),
    'correct_prompts': sum(by_prompt.values()) / len(by_prompt),
    **columns(tags, correct),
  }


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """('FILE, line 3', object) of all lines that are not empty."""
  try:
    data = read_regular(path)
  except OSError as error:
    reason = error.strerror or error
    raise ValueError(f'{os.fspath(path)} cannot be read: {reason}') from error
  if not data.strip():
    raise ValueError(f'{os.fspath(path)} is empty')
  for number, line in enumerate(data.splitlines(), 1):
    if not line.strip():
      continue
    where = f'{os.fspath(path)}, line {number}'
    record = parse_json(line, where)
    if not isinstance(record, dict):
      kind = NAMES[type(record)]
      raise ValueError(f'{where} must be an object, and is {kind}')
    yield where, record


def _check(record: dict[str, Any], where: str) -> None:
  for key, kind in RESULT.items():
    if key not in record:
      raise ValueError(
        f"{where}: it has no {key!r}; it must be a line of GenEval's "
        'results.jsonl'
      )
    if not isinstance(record[key], kind):
      wanted = NAMES[kind]
      raise ValueError(f'{where}: {key} = {record[key]!r} must be {wanted}')
