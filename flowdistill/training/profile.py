"""A profile of a few steps, and the time that the loop waits for data."""

import pathlib
import time
from collections.abc import Iterator
from typing import Any, Self

import jax

SKIP = 2  # steps, so that the trace contains no compilation


class Profile:
  """Traces some steps, for TensorBoard's profiler or Perfetto.

  Args:
    folder: of the trace, created if it does not exist.
    steps: number of steps to trace; 0 disables it.
    start: steps of the stage that an earlier run has made.
  """

  def __init__(self, folder: pathlib.Path, steps: int, start: int):
    self.folder, self.running = folder, False
    first = start + SKIP
    self.first, self.last = (first, first + steps) if steps else (-1, -1)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self._stop()

  def at(self, step: int, done: Any) -> None:
    """Reports that `step` steps are dispatched; `done` is a result of them."""
    if step == self.first:
      jax.block_until_ready(done)
      jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
      self.running = True
    elif step == self.last:
      jax.block_until_ready(done)
      self._stop()

  def _stop(self) -> None:
    if self.running:
      jax.profiler.stop_trace()
    self.running = False


class Waiting:
  """Passes batches on, and counts the seconds that each one takes.

  The loop runs ahead of the devices, so the sum is an upper bound of the time
  for which these waited for data.
  """

  def __init__(self, batches: Iterator[Any]):
    self.batches, self.seconds = batches, 0.0

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> Any:
    started = time.monotonic()
    try:
      return next(self.batches)
    finally:
      self.seconds += time.monotonic() - started
