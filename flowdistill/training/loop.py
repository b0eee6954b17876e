"""The training loop: steps, metrics a step late, saving, stopping."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class Stop:
  """Records SIGTERM and SIGINT while it is open, instead of exiting.

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
    self._agreed = False
    self._before: dict[int, Any] = {}

  def __enter__(self) -> Self:
    for number in (signal.SIGTERM, signal.SIGINT):
      self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

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

  def _note(self, number: int, _: object) -> None:
    self.signal = number


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
    save: saves the state at the end, or when stopped.
    stop: whether to stop.

  Raises:
    NotFinite: with the state before that step and its batch. After a
      non-finite step the state is frozen.
  """
  step, previous = int(state.step), None
  while step < total and not stop.asked():
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
