"""The training loop: steps, metrics a step late, saving, stopping."""

import dataclasses
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np

from flowdistill.training.state import TrainState

Batch = Mapping[str, Any]


class NotFinite(RuntimeError):
  """A loss or a gradient was not finite; `batch` is the one that did it."""

  def __init__(self, state: TrainState, batch: Batch, step: int):
    super().__init__(f'step {step}: a loss or a gradient is not finite')
    self.state, self.batch, self.step = state, batch, step


class Stop:
  """Notes SIGTERM and SIGINT while it is open, instead of dying of them.

  Of several hosts, one may be told to stop: they vote before each step, and
  stop together when the vote before the last one is known.

  Args:
    vote: whether any host says True, as an array that need not be there yet;
      None for a host that is alone.

  Attributes:
    signal: that this host got, None for none.
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
    """Whether to stop now; all hosts ask as often, and are told the same."""
    if self._vote is not None:
      self._agreed = self._last is not None and bool(self._last)
      self._last = self._vote(self.signal is not None)
    return self.agreed

  @property
  def agreed(self) -> bool:
    """Whether all stop, because of a signal here or on another host."""
    alone = self._vote is None
    return self.signal is not None if alone else self._agreed

  def _note(self, number: int, _: object) -> None:
    self.signal = number


@dataclasses.dataclass(frozen=True)
class Hooks:
  """What happens beside the steps.

  Attributes:
    every: after every step, with (step, metrics on the device): cheap.
    log: every `log_every` steps, with (step, scalars).
    save: every `save_every` steps and when stopped, with (step, state).
    evaluate: every `evaluate_every` steps (0 for never), with (step, state).
  """

  every: Callable[[int, Mapping[str, jax.Array]], None]
  log: Callable[[int, dict[str, float]], None]
  save: Callable[[int, TrainState], None]
  evaluate: Callable[[int, TrainState], None]
  log_every: int
  save_every: int
  evaluate_every: int


def fit(
  train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
  state: TrainState,
  frozen: Mapping[str, Any],
  batches: Iterator[Batch],
  key: jax.Array,
  *,
  total: int,
  hooks: Hooks,
  stop: Stop,
) -> TrainState:
  """Trains from `state.step` to `total`, or until all are asked to stop.

  Metrics are read one step after they were asked for, so the device never
  waits for the host.

  Raises:
    NotFinite: with the state before that step and its batch. A step that is
      not finite changes nothing, and nor does any step after it.
  """
  step, previous = int(state.step), None
  while step < total and not stop.asked():
    batch = next(batches)
    state, metrics = train_step(state, frozen, batch, key)
    step += 1
    _look_back(previous, state, hooks)
    previous = (step, batch, metrics)
    hooks.every(step, metrics)
    due = _due(step, total, hooks)
    if due:
      _look_back(previous, state, hooks)
      previous = None
    for hook in due:
      hook(step, state)
  _look_back(previous, state, hooks)
  hooks.save(step, state)
  return state


def _due(
  step: int, total: int, hooks: Hooks
) -> list[Callable[[int, TrainState], None]]:
  """What is to be done with the state now; the end is the caller's."""
  schedule = {
    hooks.save: hooks.save_every,
    hooks.evaluate: hooks.evaluate_every,
  }
  return [
    hook
    for hook, every in schedule.items()
    if step < total and every and step % every == 0
  ]


def _look_back(
  previous: tuple[int, Batch, Mapping[str, jax.Array]] | None,
  state: TrainState,
  hooks: Hooks,
) -> None:
  if previous is None:
    return
  step, batch, metrics = previous
  if not bool(metrics['finite']):
    raise NotFinite(state, jax.tree.map(np.asarray, batch), step)
  if step % hooks.log_every == 0:
    scalars = {k: float(v) for k, v in metrics.items() if k != 'finite'}
    hooks.log(step, scalars)
