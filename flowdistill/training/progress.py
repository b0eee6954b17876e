"""A progress bar per stage; without a terminal, a line every ten seconds."""

import sys
import time
from typing import Any, Self, TextIO

import tqdm


class Progress:
  """Shows loss, speed and time left. Use `progress` to make one.

  Speeds are averages since the first update, which follows compilation.
  """

  def __init__(
    self,
    total: int,
    start: int,
    label: str,
    *,
    batch_size: int | None,
    interval: float,
    stream: TextIO,
    ideal: float | None,
    unit: str = 'steps',
  ):
    self.total, self.step, self.label = total, start, label
    self.unit = unit
    self.ideal = ideal
    self.batch_size, self.interval, self.stream = batch_size, interval, stream
    self.loss: Any = None
    self.first: tuple[float, int, float] | None = None
    self.waited = 0.0
    self.shown = time.monotonic()
    self.bar = None
    if stream.isatty():
      self.bar = tqdm.tqdm(
        total=total,
        initial=start,
        desc=label,
        file=stream,
        dynamic_ncols=True,
        bar_format='{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}'
        '{postfix}',
      )

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self._show()
    if self.bar is not None:
      self.bar.close()

  def update(self, step: int, *, loss: Any = None, waited: float = 0.0) -> None:
    """Reports that `step` steps are done.

    Args:
      step: of the stage, counted from 1.
      loss: a float, an array of one element, or None where there is none. It
        is read only when it is shown, so that not every step waits for an
        array.
      waited: seconds that were spent waiting for data so far.
    """
    now = time.monotonic()
    self.first = self.first or (now, step, waited)
    self.step, self.loss, self.waited = step, loss, waited
    if now - self.shown >= self.interval:
      self._show()

  def summary(self) -> str:
    """'loss 0.12, 31 steps/s, 3994 images/s, 0% for data, 00:43 left'."""
    parts = [] if self.loss is None else [f'loss {float(self.loss):.4g}']
    seconds = time.monotonic() - self.first[0] if self.first else 0.0
    steps = self.step - self.first[1] if self.first else 0
    if steps > 0 and seconds > 0:
      speed = steps / seconds
      left = tqdm.tqdm.format_interval((self.total - self.step) / speed)
      parts.append(f'{speed:.3g} {self.unit}/s')
      if self.batch_size is not None:
        parts.append(f'{speed * self.batch_size:.0f} images/s')
        share = (self.waited - self.first[2]) / seconds if self.first else 0.0
        parts.append(f'{share:.0%} for data')
      if self.ideal is not None:
        parts.append(f'{self.ideal * speed:.1%} MFU')
      parts.append(f'{left} left')
    return ', '.join(parts)

  def _show(self) -> None:
    self.shown = time.monotonic()
    if self.bar is not None:
      self.bar.set_postfix_str(self.summary(), refresh=False)
      self.bar.update(self.step - self.bar.n)
      self.bar.refresh()
      return
    line = f'{self.label} {self.step}/{self.total}'
    print(', '.join(filter(None, [line, self.summary()])), file=self.stream)
    self.stream.flush()


def progress(
  total: int,
  start: int,
  label: str,
  *,
  batch_size: int | None = None,
  interval: float | None = None,
  stream: TextIO | None = None,
  ideal: float | None = None,
  unit: str = 'steps',
) -> Progress:
  """A context manager that shows the progress of a stage, or of other work.

  Args:
    total: steps of the stage.
    start: steps that an earlier run has made.
    label: name of the stage.
    batch_size: images per step, over all hosts; None shows neither images nor
      the share of time for data.
    interval: seconds between two updates of the display; by default 0.2 on a
      terminal, 10 elsewhere.
    stream: by default `sys.stdout`.
    ideal: seconds of a step at the peak of all devices, None if unknown. Its
      share of the measured seconds is the model FLOPs utilisation (MFU).
    unit: what is counted.
  """
  out: TextIO = sys.stdout if stream is None else stream
  if interval is None:
    interval = 0.2 if out.isatty() else 10.0
  return Progress(
    total,
    start,
    label,
    batch_size=batch_size,
    interval=interval,
    stream=out,
    ideal=ideal,
    unit=unit,
  )
