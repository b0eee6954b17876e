"""Traces of a few steps, and the time that is waited for data."""

import itertools
import time

import jax.numpy as jnp
import pytest

from flowdistill.training import profile
from flowdistill.training.profile import Profile, Waiting


@pytest.fixture
def calls(monkeypatch):
  """What the profiler of JAX is told."""
  found = []
  for name in ('start_trace', 'stop_trace'):
    monkeypatch.setattr(
      profile.jax.profiler,
      name,
      lambda *args, name=name, **kwargs: found.append(name),
    )
  return found


@pytest.mark.parametrize(('steps', 'start'), [(1, 0), (3, 0), (3, 40)])
def test_so_many_steps_are_traced_after_the_first_two(
  calls, tmp_path, steps, start
):
  with Profile(tmp_path, steps, start) as trace:
    for step in range(start + 1, start + 10):
      trace.at(step, jnp.ones(1))
      begun = step >= start + 2
      over = step >= start + 2 + steps
      assert calls == ['start_trace'] * begun + ['stop_trace'] * over
  assert calls == ['start_trace', 'stop_trace']


def test_a_run_that_ends_before_stops_the_trace(calls, tmp_path):
  with Profile(tmp_path, 5, 0) as trace:
    trace.at(2, jnp.ones(1))
  assert calls == ['start_trace', 'stop_trace']


def test_without_steps_nothing_is_traced(calls, tmp_path):
  with Profile(tmp_path, 0, 0) as trace:
    for step in range(10):
      trace.at(step, jnp.ones(1))
  assert calls == []


def test_waiting_is_counted_and_nothing_is_lost():
  def slow():
    for k in itertools.count():
      time.sleep(0.01)
      yield k

  feed = Waiting(slow())
  assert list(itertools.islice(feed, 5)) == [0, 1, 2, 3, 4]
  assert 0.05 <= feed.seconds < 0.5
  time.sleep(0.1)
  assert feed.seconds < 0.5
