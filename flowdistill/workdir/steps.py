"""The checkpoints of a stage that a job reads, `--steps=...`.

last         the newest
500          that of one step
500:2000     those in a range; either end may be omitted
all          all that exist
wait         all, and new ones as they appear, until the stage has ended
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
REMOVAL = 10.0  # seconds that the removal of a checkpoint may take
T = TypeVar('T')


def check_steps(text: str) -> None:
  """Raises ConfigError unless `--steps` has one of the forms above."""
  if text in (LAST, ALL, WAIT) or re.fullmatch(r'\d+|\d*:\d*', text):
    return
  raise ConfigError(
    f'--steps={text} must be {LAST}, {ALL}, {WAIT}, a step, or a range '
    'such as 500:2000'
  )


def is_several(text: str) -> bool:
  """Whether `--steps` may select more than one."""
  return text != LAST and not text.isdigit()


def chosen(
  folder: pathlib.Path, text: str, end: int, *, patience: float = PATIENCE
) -> Iterator[int]:
  """The steps that `text` selects, ascending.

  With 'wait' it ends at step `end` of the stage, or after `patience` seconds
  without a new checkpoint.

  Raises:
    ConfigError: if none of them exists.
  """
  check_steps(text)
  if text == WAIT:
    return waited(folder, end, patience)
  steps = completed_steps(folder)
  selected = among(steps, text)
  if not selected:
    existing = f'only of {steps}' if steps else 'nor any other'
    raise ConfigError(
      f'there is no checkpoint of --steps={text} in {folder}, {existing}'
    )
  return iter(selected)


def among(steps: Sequence[int], text: str) -> list[int]:
  """The steps that `text` selects."""
  if text == LAST:
    return list(steps[-1:])
  if text == ALL:
    return list(steps)
  first, colon, last = text.partition(':')
  last = last if colon else first
  return [
    step
    for step in steps
    if step >= int(first or 0) and (not last or step <= int(last))
  ]


def waited(folder: pathlib.Path, end: int, patience: float) -> Iterator[int]:
  """Yields each checkpoint once, as soon as it is complete.

  One that is removed before its turn is skipped.
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
  """Yields each step with the result of `read`.

  A checkpoint that a run removes meanwhile is skipped, with a line in the log.

  Raises:
    FileNotFoundError: if no checkpoint could be read.
  """
  last = None
  for step in steps:
    try:
      result = read(step)
    except (OSError, ValueError) as error:
      if not is_removed(folder, step, error):
        raise
      logging.warning('step %d is skipped: it was removed meanwhile', step)
      continue
    last = step
    yield step, result
  if last is None:
    raise FileNotFoundError(f'no checkpoint in {folder} could be read')


def is_removed(folder: pathlib.Path, step: int, error: Exception) -> bool:
  """Whether a checkpoint that could not be read is removed, or soon will be.

  The newest is never removed. One that is being removed looks damaged.
  """
  seconds = REMOVAL if isinstance(error, CheckpointError) else 0.0
  end = time.monotonic() + seconds
  while step in (steps := completed_steps(folder)):
    if step == steps[-1] or time.monotonic() >= end:
      return False
    time.sleep(REMOVAL / 100)
  return True
