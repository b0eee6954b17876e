"""Stopping: one host at once, several together. The loop: tests/jobs."""

import signal

import numpy as np
import pytest

from flowdistill.training import loop
from flowdistill.training.loop import Interrupted, Stop


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


def test_a_hangup_counts_unless_it_was_ignored(monkeypatch):
  for ignored in (False, True):
    how = signal.SIG_IGN if ignored else signal.SIG_DFL
    before = signal.signal(signal.SIGHUP, how)
    try:
      with Stop() as stop:
        assert (signal.getsignal(signal.SIGHUP) == how) == ignored
        if not ignored:
          signal.raise_signal(signal.SIGHUP)
        assert stop.asked() != ignored
      assert signal.getsignal(signal.SIGHUP) == how
    finally:
      signal.signal(signal.SIGHUP, before)


def test_only_a_second_ctrl_c_ends_at_once(monkeypatch):
  ended = []
  monkeypatch.setattr(loop.os, '_exit', ended.append)
  with Stop() as stop:
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
      signal.raise_signal(number)
    assert stop.asked() and not ended
    signal.raise_signal(signal.SIGINT)
  assert ended == [130]


def test_what_need_not_be_saved_is_given_up_at_once():
  with Stop() as stop:
    with pytest.raises(Interrupted, match='SIGTERM') as error, stop.at_once():
      signal.raise_signal(signal.SIGTERM)
    assert error.value.number == signal.SIGTERM
    with pytest.raises(Interrupted), stop.at_once():
      pytest.fail('it began all the same')
    signal.raise_signal(signal.SIGTERM)  # afterwards it is only noted
    assert stop.agreed


def test_with_several_hosts_all_goes_on_until_they_agree():
  with Stop(np.array) as stop, stop.at_once():
    signal.raise_signal(signal.SIGTERM)
  assert stop.signal == signal.SIGTERM
