"""Hosts that die, hang, are busy or leave, and what is said of them."""

import json
import time

import jax
import pytest

from flowdistill.training.watchdog import AGAIN, Host, Watchdog, give_up

TIMEOUT = 0.6


def pair(folder):
  """Two hosts that note whom they miss."""
  barks = [], []
  dogs = [
    Watchdog(folder, p, 2, TIMEOUT, interval=0.02, bark=barks[p].append)
    for p in range(2)
  ]
  return dogs, barks


def wait_for(barks, seconds):
  end = time.monotonic() + seconds
  while time.monotonic() < end and not barks:
    time.sleep(0.01)
  return barks


def test_hosts_that_train_miss_nobody(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one, two:
    for step in range(20):
      one.at(0, step)
      two.at(0, step)
      time.sleep(2 * TIMEOUT / 20)
  assert barks == ([], [])


def test_a_host_that_dies_is_named_with_the_step(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one:
    one.at(0, 8)
    with two:
      two.at(0, 7)
      time.sleep(0.2)
      two._end.set()  # its thread stops, as when it is killed or frozen
      started = time.monotonic()
      (message,) = wait_for(barks[0], 5)
      assert TIMEOUT / 2 < time.monotonic() - started < TIMEOUT + 1
  assert message.startswith(
    'process 1 did not arrive at step 8: it has given no sign of life for '
    '0.6 s; it was at step 7'
  )
  assert barks[1] == []


def test_a_host_that_was_never_there_is_named(tmp_path):
  (one, _), barks = pair(tmp_path)
  with one:
    one.at(0, 3)
    assert 'process 1 did not arrive at step 3' in wait_for(barks[0], 5)[0]


def test_a_host_that_hangs_is_named_by_the_others_alone(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one, two:
    one.at(0, 41)
    two.at(0, 40)
    (message,) = wait_for(barks[0], 5)
  assert 'process 1 did not arrive at step 41: it lives, but hangs' in message
  assert barks[1] == []


def test_a_host_that_is_late_but_moves_is_waited_for(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one, two:
    one.at(0, 100)
    for step in range(30):
      two.at(0, step)
      time.sleep(2 * TIMEOUT / 30)
    assert barks == ([], [])


def test_a_busy_host_is_waited_for_and_no_longer_when_it_is_done(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one, two:
    one.at(0, 2)
    two.at(0, 1)
    with two.busy('measuring'):
      time.sleep(2 * TIMEOUT)
      assert barks == ([], [])
    assert 'hangs' in wait_for(barks[0], 5)[0]


def test_a_host_that_compiles_is_waited_for(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one, two:
    two.at(0, 0)
    one.at(0, 1)
    time.sleep(2 * TIMEOUT)
    assert barks == ([], [])
    two.at(0, 1)
    one.at(0, 2)
    assert 'hangs' in wait_for(barks[0], 5)[0]


def test_a_host_that_leaves_in_peace_is_not_missed(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one:
    with two:
      two.at(0, 5)
    one.at(0, 6)
    time.sleep(2 * TIMEOUT)
  assert barks == ([], [])
  assert json.loads((tmp_path / '1.json').read_text())['done']


def test_a_host_that_fails_is_missed(tmp_path):
  (one, two), barks = pair(tmp_path)
  with one:
    with pytest.raises(KeyError), two:
      raise KeyError
    assert wait_for(barks[0], 5)


def test_a_failed_collective_waits_until_the_host_is_named(tmp_path):
  (one, _), barks = pair(tmp_path)
  with pytest.raises(jax.errors.JaxRuntimeError), one:
    raise jax.errors.JaxRuntimeError('gloo: connection closed by peer')
  assert len(barks[0]) == 1


def test_what_an_earlier_run_left_is_no_sign_of_life(tmp_path):
  (one, two), barks = pair(tmp_path)
  with two:
    two.at(0, 9)
  left = json.loads((tmp_path / '1.json').read_text())
  (tmp_path / '1.json').write_text(json.dumps({**left, 'done': False}))
  with one:
    assert wait_for(barks[0], 5)


def test_alone_there_is_nobody_to_watch(tmp_path):
  with Watchdog(tmp_path / 'hosts', 0, 1, TIMEOUT):
    time.sleep(0.1)
  assert not (tmp_path / 'hosts').exists()


@pytest.mark.parametrize('ours', [(0, 5), (0, 4)])
def test_nobody_waits_for_a_host_that_is_not_behind(ours):
  host = Host(alive=10.0, moved=0.0, place=(0, 5))
  assert host.fault(ours, 10.5, 1.0) == ''


def test_giving_up_ends_the_process_at_once(monkeypatch, capsys):
  codes = []
  monkeypatch.setattr('os._exit', codes.append)
  give_up('process 1 is gone')
  assert codes == [AGAIN] == [75]
  assert capsys.readouterr().err == 'error: process 1 is gone\n'
