"""The training loop: steps, metrics a step late, saving, stopping."""

import contextlib
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np

from flowdistill.training.state import TrainState

Batch = Mapping[str, Any]


class NotFinite(RuntimeError):
  """A loss or a gradient of `batch` was not finite."""

  def __init__(self, state: TrainState, batch: Batch, step: int):
    super().__init__(f'step {step}: a loss or a gradient is not finite')
    self.state, self.batch, self.step = state, batch, step


class Interrupted(KeyboardInterrupt):
  """A signal that ends the process, as Ctrl-C does."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.number = number


@contextlib.contextmanager
def handled(act: Callable[[int], None]) -> Generator[None]:
  """While it is open, `act(number)` is called for signals that end a process.

  SIGHUP stays ignored where it was, as under nohup. A second Ctrl-C ends the
  process at once.
  """
  numbers = [signal.SIGTERM, signal.SIGINT]
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    numbers.append(signal.SIGHUP)
  seen: list[int] = []

  def handler(number: int, _: object) -> None:
    if number == signal.SIGINT and number in seen:
      os._exit(128 + number)
    seen.append(number)
    act(number)

  before = {number: signal.signal(number, handler) for number in numbers}
  try:
    yield
  finally:
    for number, old in before.items():
      signal.signal(number, old)


class Stop:
  """Records SIGTERM, SIGHUP and SIGINT while it is open, instead of exiting.

  A signal may reach only one of several hosts: they vote before each step, and
  stop together when the result of the vote before the last is known.

  Args:
    vote: whether any host votes True, as an array that may still be computed;
      None for a single host.

  Attributes:
    signal: that this host received, or None.
  """

  def __init__(self, vote: Callable[[bool], jax.Array] | None = None) -> None:
    self.signal: int | None = None
    self._vote, self._last = vote, None
    self._agreed = self._at_once = False
    self._open = contextlib.ExitStack()

  def __enter__(self) -> Self:
    self._open.enter_context(handled(self._note))
    return self

  def __exit__(self, *_: object) -> None:
    self._open.close()

  def asked(self) -> bool:
    """Whether to stop now; all hosts call it equally often."""
    if self._vote is not None:
      self._agreed = self._last is not None and bool(self._last)
      self._last = self._vote(self.signal is not None)
    return self.agreed

  @property
  def agreed(self) -> bool:
    """Whether all hosts stop, after a signal on any of them."""
    return self.signal is not None if self._vote is None else self._agreed

  @contextlib.contextmanager
  def at_once(self) -> Generator[None]:
    """While it is open, a signal raises Interrupted on a single host.

    It is for work of which nothing has to be saved, and that may take long.
    """
    self._at_once = self._vote is None
    try:
      if self._at_once and self.signal is not None:
        raise Interrupted(self.signal)
      yield
    finally:
      self._at_once = False

  def _note(self, number: int) -> None:
    self.signal = number
    if self._at_once:
      raise Interrupted(number)


Action = tuple[int, Callable[[int, TrainState], None]]
"""(every, action): action(step, state) every `every` steps; 0 is never."""
Log = tuple[int, Callable[[int, dict[str, float]], None]]
"""(every, action): action(step, scalars) of the metrics."""


def fit(
  train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
  state: TrainState,
  frozen: Mapping[str, Any],
  batches: Iterator[Batch],
  key: jax.Array,
  *,
  total: int,
  log: Log,
  actions: Sequence[Action],
  each: Callable[[int, Mapping[str, jax.Array]], None],
  save: Callable[[int, TrainState], None],
  stop: Stop,
) -> TrainState:
  """Trains from `state.step` to `total`, or until all hosts stop.

  Metrics are read one step late, so that the device never waits for the host.

  Args:
    train_step: jitted.
    state: before the first step; it may be donated.
    frozen: trees of frozen weights.
    batches: from the position of the state.
    key: of the stage; the step is folded in.
    total: steps of the stage.
    log: of the metrics.
    actions: run in order while training, but not after the last step.
    each: a cheap function of (step, metrics on the device), after every step.
    save: saves the state at the end, or when stopped after a step.
    stop: whether to stop.

  Raises:
    NotFinite: with the state before that step and its batch. After a
      non-finite step the state is frozen.
    Interrupted: on a single host, by a signal before the first step is made.
  """
  start = step = int(state.step)
  previous = None
  while step < total and not stop.asked():
    # Until the first step is made, which compiles, there is nothing to save.
    with stop.at_once() if step == start else contextlib.nullcontext():
      batch = next(batches)
      state, metrics = train_step(state, frozen, batch, key)
    step += 1
    _look_back(previous, state, log)
    previous = (step, batch, metrics)
    each(step, metrics)
    due = [act for n, act in actions if step < total and n and not step % n]
    if due:
      _look_back(previous, state, log)
      previous = None
    for act in due:
      act(step, state)
  _look_back(previous, state, log)
  if step:
    save(step, state)
  return state


def _look_back(
  previous: tuple[int, Batch, Mapping[str, jax.Array]] | None,
  state: TrainState,
  log: Log,
) -> None:
  """Reads the metrics of a step: checks that it is finite, and logs it."""
  if previous is None:
    return
  step, batch, metrics = previous
  if not bool(metrics['finite']):
    raise NotFinite(state, jax.tree.map(np.asarray, batch), step)
  every, write = log
  if step % every == 0:
    write(step, {k: float(v) for k, v in metrics.items() if k != 'finite'})
