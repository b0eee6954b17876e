"""Hosts that die, hang, are busy or end, and what is reported of them."""

import dataclasses
import functools
import os
import resource
import signal
import subprocess
import sys
import time

import jax
import pytest

from flowdistill.training import watchdog
from flowdistill.training.heartbeat import (
  SIZE,
  Heartbeat,
  Host,
  read_heartbeat,
  write_heartbeat,
)
from flowdistill.training.watchdog import AGAIN, FAILED, Watchdog, give_up

TIMEOUT = 0.6


def pair(folder):
  """Two hosts, and whom each one misses; the exit codes are in `CODES`."""
  missed, CODES[:] = ([], []), []

  def note(process, message, code):
    missed[process].append(message)
    CODES.append(code)

  dogs = [
    Watchdog(
      folder,
      p,
      2,
      TIMEOUT,
      interval=0.02,
      on_missing=functools.partial(note, p),
    )
    for p in range(2)
  ]
  return dogs, missed


CODES = []


def wait_for(missed, seconds):
  end = time.monotonic() + seconds
  while time.monotonic() < end and not missed:
    time.sleep(0.01)
  return missed


def test_hosts_that_train_miss_nobody(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one, two:
    for step in range(20):
      one.at(0, step)
      two.at(0, step)
      time.sleep(2 * TIMEOUT / 20)
  assert missed == ([], [])


def test_a_host_that_dies_is_named_with_the_step(tmp_path):
  (one, _), missed = pair(tmp_path)
  with one:
    one.at(0, 8)
    for pulse in range(1, 11):
      write_heartbeat(tmp_path / '1.json', Heartbeat(pulse, step=7))
      time.sleep(0.02)
    assert missed[0] == []
    started = time.monotonic()
    (message,) = wait_for(missed[0], 5)
    assert TIMEOUT / 2 < time.monotonic() - started < TIMEOUT + 1
  assert message.startswith(
    'process 1 did not arrive at step 8: it has given no sign of life for '
    '0.6 s; it was at step 7'
  )


def test_a_host_that_was_never_there_is_named(tmp_path):
  (one, _), missed = pair(tmp_path)
  with one:
    one.at(0, 3)
    assert 'process 1 did not arrive at step 3' in wait_for(missed[0], 5)[0]


def test_a_host_that_hangs_is_named_by_the_others_alone(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one, two:
    one.at(0, 41)
    two.at(0, 40)
    (message,) = wait_for(missed[0], 5)
  assert 'process 1 did not arrive at step 41: it is alive, but h' in message
  assert missed[1] == []


def test_a_host_that_is_late_but_moves_is_waited_for(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one, two:
    one.at(0, 100)
    for step in range(30):
      two.at(0, step)
      time.sleep(2 * TIMEOUT / 30)
    assert missed == ([], [])


def test_a_busy_host_is_waited_for_and_no_longer_when_it_is_done(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one, two:
    one.at(0, 2)
    two.at(0, 1)
    with two.busy('measuring'):
      time.sleep(2 * TIMEOUT)
      assert missed == ([], [])
    assert 'hangs' in wait_for(missed[0], 5)[0]


def test_a_host_that_waited_for_us_does_not_hang(tmp_path):
  """It was at its step all the time that we compiled, and then we are fast."""
  (one, two), missed = pair(tmp_path)
  with one, two:
    two.at(0, 1)
    one.at(0, 0)
    time.sleep(2 * TIMEOUT)
    for step in range(1, 8):
      one.at(0, step)
      time.sleep(0.05)
    two.at(0, 8)
    time.sleep(0.1)
  assert missed == ([], [])


def test_a_host_that_compiles_is_waited_for(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one, two:
    two.at(0, 0)
    one.at(0, 1)
    time.sleep(2 * TIMEOUT)
    assert missed == ([], [])
    two.at(0, 1)
    one.at(0, 2)
    assert 'hangs' in wait_for(missed[0], 5)[0]


def test_a_host_that_leaves_in_peace_is_not_missed(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one:
    with two:
      two.at(0, 5)
    one.at(0, 6)
    time.sleep(2 * TIMEOUT)
  assert missed == ([], [])
  assert read_heartbeat(tmp_path / '1.json').done


def test_a_host_that_is_told_to_stop_leaves_in_peace(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one:
    with pytest.raises(SystemExit), two:
      sys.exit(AGAIN)
    time.sleep(2 * TIMEOUT)
  assert missed == ([], [])


def test_a_host_that_fails_is_named_at_once_with_what_it_said(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one:
    one.at(0, 5)
    with pytest.raises(OSError, match='No space'), two:
      two.at(0, 4)
      time.sleep(0.1)
      started = time.monotonic()
      raise OSError('No space left on device')
    assert wait_for(missed[0], 5) == [
      'process 1 did not arrive at step 5: it failed, it was at step 4: '
      'OSError: No space left on device'
    ]
    assert time.monotonic() - started < TIMEOUT / 2
  assert CODES == [FAILED]


@pytest.mark.parametrize(('process', 'told'), [(0, True), (1, False)])
def test_a_coordinator_that_fails_ends_after_the_others(
  process, told, tmp_path, monkeypatch
):
  slept = []
  dog = Watchdog(tmp_path, process, 2, TIMEOUT, interval=0.02)
  with pytest.raises(OSError, match='full'), dog:
    monkeypatch.setattr(watchdog.time, 'sleep', slept.append)
    raise OSError('the disk is full')
  assert slept == [3 * dog.interval] * told
  assert read_heartbeat(tmp_path / f'{process}.json').failed


def test_a_host_that_is_interrupted_is_missed(tmp_path):
  (one, two), missed = pair(tmp_path)
  with one:
    with pytest.raises(KeyboardInterrupt), two:
      raise KeyboardInterrupt
    assert 'no sign of life' in wait_for(missed[0], 5)[0]
  assert CODES == [AGAIN]


@pytest.mark.parametrize('kind', [jax.errors.JaxRuntimeError, ValueError])
def test_a_failed_collective_waits_until_the_host_is_named(kind, tmp_path):
  (one, _), missed = pair(tmp_path)
  with pytest.raises(kind), one:
    raise kind('gloo: connection closed by peer')
  assert len(missed[0]) == 1


@pytest.mark.parametrize('said', [{'done': False}, {}, {'failed': 'before'}])
def test_what_an_earlier_run_left_is_no_sign_of_life(said, tmp_path):
  (one, two), missed = pair(tmp_path)
  with two:
    two.at(0, 9)
  left = read_heartbeat(tmp_path / '1.json')
  write_heartbeat(tmp_path / '1.json', dataclasses.replace(left, **said))
  with one:
    assert 'no sign of life' in wait_for(missed[0], 5)[0]


def test_half_a_heartbeat_is_ignored(tmp_path):
  path = tmp_path / '1.json'
  write_heartbeat(path, Heartbeat(1.0, busy='measuring'))
  assert path.stat().st_size == SIZE
  assert read_heartbeat(path) == Heartbeat(1.0, busy='measuring')
  for damaged in (b'', path.read_bytes()[:20], b'{"pulse": 1, "odd": 2}'):
    path.write_bytes(damaged)
    assert read_heartbeat(path) is None
  (one, _), missed = pair(tmp_path)
  with one:
    assert wait_for(missed[0], 5)


def test_heartbeats_go_on_when_the_disk_is_full(tmp_path):
  """They are overwritten in place; a file that has to grow is refused."""
  (one, two), missed = pair(tmp_path)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  with one, two:
    try:
      resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, limits[1]))
      with pytest.raises(OSError, match='File too large'):
        (tmp_path / 'more').write_bytes(bytes(SIZE + 1))
      time.sleep(2 * TIMEOUT)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert missed == ([], [])


def test_a_host_that_cannot_write_its_heartbeat_warns_once_and_watches(
  tmp_path, monkeypatch, capsys
):
  (one, _), missed = pair(tmp_path)

  def refused(*_):
    raise OSError('no quota')

  with one:
    monkeypatch.setattr(watchdog, 'write_heartbeat', refused)
    (message,) = wait_for(missed[0], 5)
  assert 'sign of life for 0.6 s' in message
  assert '(and this process could give none: no quota)' in message
  assert capsys.readouterr().err == 'warning: no heartbeat: no quota\n'


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
  (tmp_path / 'hosts').write_text('a file')
  with pytest.raises(OSError, match='hosts'):
    with Watchdog(tmp_path / 'hosts', 0, 2, TIMEOUT):
      pass


ABORTS = """
import contextlib, os, pathlib, sys, threading, time
from flowdistill.training.watchdog import Watchdog

folder, lives = pathlib.Path(sys.argv[1]), sys.argv[2] == 'lives'
first = Watchdog(folder, 0, 2, 99.0, interval=0.02, on_missing=print)
with first if lives else contextlib.nullcontext():
  with Watchdog(folder, 1, 2, 0.5, interval=0.02) as dog:
    dog.at(0, 3)
    first.at(0, 3)
    threading.Thread(target=os.abort).start()
    time.sleep(60)
"""


@pytest.mark.parametrize(
  ('other', 'code', 'said'),
  [
    ('lives', -signal.SIGABRT, ''),  # the abort is of our own making
    ('died', AGAIN, 'error: process 0 did not arrive at step 3: it has'),
  ],
)
def test_an_abort_waits_until_a_host_is_named(other, code, said, tmp_path):
  """As JAX does in a thread of its own, where the first host has died."""
  done = subprocess.run(
    [sys.executable, '-c', ABORTS, str(tmp_path), other],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == code
  assert said in done.stderr
  assert said or not done.stderr


@pytest.mark.parametrize('ours', [(0, 5), (0, 4)])
def test_nobody_waits_for_a_host_that_is_not_behind(ours):
  host = Host(alive=10.0, moved=0.0, heartbeat=Heartbeat(step=5))
  assert host.fault(ours, 0.0, 10.5, 1.0) == ''


def test_giving_up_ends_the_process_at_once(monkeypatch, capsys):
  codes = []
  monkeypatch.setattr('os._exit', codes.append)
  give_up('process 1 is gone')
  assert codes == [AGAIN] == [75]
  assert capsys.readouterr().err == 'error: process 1 is gone\n'
