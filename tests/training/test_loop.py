"""Stopping: one host at once, several together. The loop: tests/jobs."""

import signal

import numpy as np
import pytest

from flowdistill.training.loop import Stop


def test_alone_a_signal_counts_at_once():
  with Stop() as stop:
    assert not stop.asked()
    assert not stop.agreed
    signal.raise_signal(signal.SIGTERM)
    assert stop.agreed
    assert stop.asked()
    assert stop.signal == signal.SIGTERM


def test_handlers_are_given_back():
  before = signal.getsignal(signal.SIGTERM)
  with Stop():
    assert signal.getsignal(signal.SIGTERM) != before
  assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize('told', [0, 1])
@pytest.mark.parametrize('when', [0, 1, 4])
def test_hosts_stop_together_whoever_is_told(told, when):
  """The votes of a step are known two steps later, on all hosts alike."""
  said, votes = [], []

  def vote(answer):
    """An array whose value is there when all hosts have voted."""
    said.append(answer)
    return votes[-1]

  hosts = [Stop(vote), Stop(vote)]
  for step in range(when + 3):
    if step == when:
      hosts[told].signal = signal.SIGTERM
    votes.append(np.zeros((), bool))
    asked = [host.asked() for host in hosts]
    votes[-1][...] = any(said[-2:])
    assert asked == [step > when] * 2
    assert [host.agreed for host in hosts] == asked
    if step > when:
      return
  pytest.fail('they never stopped')
