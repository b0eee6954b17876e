"""Which checkpoints of a stage a job looks at, `--steps=...`.

last         the newest
500          one
500:2000     those from one step to another; either end may be left out
all          those that are there
wait         those, and new ones as they appear, until the stage has ended
"""

import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from absl import logging

from flowdistill.config.bind import ConfigError
from flowdistill.training.checkpoint import CheckpointError, completed_steps

LAST, ALL, WAIT = 'last', 'all', 'wait'
POLL, PATIENCE = 5.0, 3600.0  # seconds between two looks, and in all
REMOVAL = 10.0  # seconds within which a checkpoint that is half gone is gone
T = TypeVar('T')


def check_steps(text: str) -> None:
  """Raises ConfigError unless `--steps` is spelled like one of the above."""
  if text in (LAST, ALL, WAIT) or re.fullmatch(r'\d+|\d*:\d*', text):
    return
  raise ConfigError(
    f'--steps={text} must be {LAST}, {ALL}, {WAIT}, a step, or a range '
    'such as 500:2000'
  )


def is_several(text: str) -> bool:
  """Whether `--steps` may be more than one."""
  return text != LAST and not text.isdigit()


def chosen(
  folder: pathlib.Path, text: str, end: int, *, patience: float = PATIENCE
) -> Iterator[int]:
  """The steps that `text` says, ascending.

  Raises:
    ConfigError: if there is none of them.
  """
  check_steps(text)
  if text == WAIT:
    return waited(folder, end, patience)
  steps = completed_steps(folder)
  found = among(steps, text)
  if not found:
    there = f'only of {steps}' if steps else 'nor any other'
    raise ConfigError(
      f'there is no checkpoint of --steps={text} in {folder}, {there}'
    )
  return iter(found)


def among(steps: Sequence[int], text: str) -> list[int]:
  """Those of the steps that are asked for."""
  if text == LAST:
    return list(steps[-1:])
  if text == ALL:
    return list(steps)
  first, _, last = text.partition(':')
  if ':' not in text:
    last = first
  return [
    step
    for step in steps
    if step >= int(first or 0) and (not last or step <= int(last))
  ]


def waited(folder: pathlib.Path, end: int, patience: float) -> Iterator[int]:
  """Each checkpoint once, as soon as it is complete.

  One that was removed before it was its turn is left out.
  """
  seen, since = -1, time.monotonic()
  while seen < end and time.monotonic() - since < patience:
    new = [step for step in completed_steps(folder) if step > seen]
    if not new:
      time.sleep(min(POLL, patience / 10))
      continue
    seen, since = new[0], time.monotonic()
    yield seen
    since = time.monotonic()


def read_each(
  folder: pathlib.Path, steps: Iterable[int], read: Callable[[int], T]
) -> Iterator[tuple[int, T]]:
  """Each step, and what is read of its checkpoint.

  One that a run removes meanwhile is left out, with a line in the log.

  Raises:
    FileNotFoundError: if in the end there was none.
    Exception: what `read` raises of one that stays.
  """
  last = None
  for step in steps:
    try:
      found = read(step)
    except (OSError, ValueError) as error:
      if not is_removed(folder, step, error):
        raise
      logging.warning('step %d is left out: it was removed meanwhile', step)
      continue
    last = step
    yield step, found
  if last is None:
    raise FileNotFoundError(f'no checkpoint in {folder} could be read')


def is_removed(folder: pathlib.Path, step: int, error: Exception) -> bool:
  """Whether a checkpoint that could not be read is gone, or soon is.

  The newest is never removed. One that is half gone is read as damaged.
  """
  seconds = REMOVAL if isinstance(error, CheckpointError) else 0.0
  end = time.monotonic() + seconds
  while step in (there := completed_steps(folder)):
    if step == there[-1] or time.monotonic() >= end:
      return False
    time.sleep(REMOVAL / 100)
  return True
