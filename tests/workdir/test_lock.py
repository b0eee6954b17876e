"""The lock of a folder: one writer, whatever was killed, here or elsewhere."""

import concurrent.futures
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.workdir import lock
from flowdistill.workdir.lock import LOCK, Lock, locked, read_note
from flowdistill.workdir.process import Process

SHORT = {'beat': 0.05, 'patience': 0.5}


def elsewhere(path, **changed):
  """Makes the holder of a lock one of another machine."""
  record = json.loads(path.read_text())
  record['process'] |= {'host': 'far', 'machine': 'other', **changed}
  path.write_text(json.dumps(record).ljust(lock.SIZE))


def left(folder, **changed):
  """A lock that a process of this machine has left, dead if `started` is."""
  with Lock(folder, 'train'):
    text = (folder / LOCK).read_text()
  record = json.loads(text)
  record['process'] |= changed
  (folder / LOCK).write_text(json.dumps(record))
  return folder / LOCK


def test_a_second_one_is_told_who_holds_it(tmp_path):
  with Lock(tmp_path / 'w', 'train') as held:
    note = read_note(tmp_path / 'w' / LOCK)
    assert note.process == Process.this()
    message = (
      rf'{tmp_path}/w is in use: process {os.getpid()} on \S+ \(--job=train, '
      f'since {re.escape(held.since)}'
    )
    with pytest.raises(ConfigError, match=message):
      Lock(tmp_path / 'w', 'pairs').__enter__()
    with locked(tmp_path / 'other', 'pairs'):
      pass
  assert not (tmp_path / 'w' / LOCK).exists()
  with Lock(tmp_path / 'w', 'pairs'):
    pass


@pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit, OSError])
def test_it_is_released_however_a_job_ends(error, tmp_path):
  with pytest.raises(error):
    with locked(tmp_path, 'train'):
      raise error(75)
  assert list(tmp_path.iterdir()) == []
  with Lock(tmp_path, 'train'):
    lock.release_all()  # before os._exit
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('place', 'name'), [(os, 'pwrite'), (lock, 'remove_leftovers')]
)
def test_a_signal_while_it_is_taken_leaves_none(
  place, name, tmp_path, monkeypatch
):
  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(place, name, interrupt)
  with pytest.raises(KeyboardInterrupt):
    Lock(tmp_path, 'train').__enter__()
  assert list(tmp_path.iterdir()) == [] and not lock.HELD


def test_who_is_refused_leaves_the_lock_of_the_holder(tmp_path):
  with Lock(tmp_path, 'train'):
    with pytest.raises(ConfigError, match='is in use'):
      Lock(tmp_path, 'pairs').__enter__()
    assert len(lock.HELD) == 1 and (tmp_path / LOCK).exists()


HOLDS = """
import pathlib, sys, time
from flowdistill.workdir.lock import locked
with locked(pathlib.Path(sys.argv[1]), 'train'):
  print('held', flush=True)
  time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_holder_is_followed_at_once(tmp_path, capsys):
  (tmp_path / '.0123456789abcdef.tmp').touch()
  holder = subprocess.Popen(
    [sys.executable, '-c', HOLDS, str(tmp_path)], stdout=subprocess.PIPE
  )
  assert holder.stdout.readline() == b'held\n'
  with pytest.raises(ConfigError, match=f'in use: process {holder.pid} on'):
    Lock(tmp_path, 'train').__enter__()
  holder.send_signal(signal.SIGKILL)
  while not read_note(tmp_path / LOCK).process.has_ended:  # also as a zombie
    time.sleep(0.01)
  (tmp_path / '.fedcba9876543210.tmp').touch()
  began = time.monotonic()
  with Lock(tmp_path, 'train'):
    assert time.monotonic() - began < 1
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
  assert f'process {holder.pid} on' in capsys.readouterr().out
  holder.wait()


def test_another_process_with_the_number_of_the_dead_is_no_holder(
  tmp_path, capsys
):
  left(tmp_path, started='1')  # ours has started later
  with Lock(tmp_path, 'train'):
    assert 'has ended' in capsys.readouterr().out


def test_one_elsewhere_lives_as_long_as_its_heart_beats(tmp_path, capsys):
  path = left(tmp_path, host='far', machine='other')
  text, end = path.read_text(), threading.Event()

  def beat():
    for k in range(10**6):
      with path.open('r+') as file:  # in place, as a holder does
        file.write(text + ' \n'[k % 2])
      if end.wait(0.1):
        return

  with concurrent.futures.ThreadPoolExecutor() as pool:
    pool.submit(beat)
    try:
      with pytest.raises(ConfigError, match='process .* on far .* writes'):
        Lock(tmp_path, 'train', patience=5).__enter__()
    finally:
      end.set()
  os.utime(path, (2**33, 2**33))  # clocks are not compared
  with Lock(tmp_path, 'train', **SHORT):
    assert read_note(path).process == Process.this()
  assert 'no sign of life for 0.5 s' in capsys.readouterr().out


def test_one_that_is_just_being_written_is_named(tmp_path):
  path = left(tmp_path)  # by this process, which lives
  text = path.read_text()
  path.write_text('')
  timer = threading.Timer(0.2, path.write_text, [text])
  timer.start()
  with pytest.raises(ConfigError, match=f'process {os.getpid()} on .* writes'):
    Lock(tmp_path, 'train', patience=5).__enter__()
  timer.join()


@pytest.mark.parametrize('text', ['', '{"a', '[]', '{}', '{"process": {}}'])
def test_one_that_does_not_say_who_holds_it_is_watched(text, tmp_path, capsys):
  (tmp_path / LOCK).write_text(text)
  with Lock(tmp_path, 'train', **SHORT):
    pass
  assert 'that its lock does not name' in capsys.readouterr().out


def test_a_planted_link_is_not_followed(tmp_path):
  victim = tmp_path / 'victim'
  for content in ('precious', None):
    victim.unlink(missing_ok=True)
    if content:
      victim.write_text(content)
    folder = tmp_path / f'{content}'
    folder.mkdir()
    (folder / LOCK).symlink_to(victim)
    with Lock(folder, 'train', **SHORT):
      assert not (folder / LOCK).is_symlink()
    assert victim.exists() == bool(content)
    assert not content or victim.read_text() == content


def test_who_loses_its_lock_ends(tmp_path):
  lost = threading.Event()
  with Lock(tmp_path, 'a', beat=0.05, on_lost=lambda _: lost.set()):
    elsewhere(tmp_path / LOCK)
    text = (tmp_path / LOCK).read_text()
    (tmp_path / LOCK).unlink()
    other = json.loads(text) | {'token': 'another'}
    (tmp_path / LOCK).write_text(json.dumps(other))
    assert lost.wait(5)
  assert json.loads((tmp_path / LOCK).read_text()) == other  # left as it is


def test_of_many_that_take_over_one_lock_one_gets_it(tmp_path):
  left(tmp_path, started='1')
  start, inside = threading.Barrier(8), []

  def take(_):
    start.wait()
    try:
      with Lock(tmp_path, 'train'):
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.1)
        inside.pop()
        return 1
    except ConfigError:
      return 0

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert sum(pool.map(take, range(8))) >= 1


def test_a_holder_is_waited_for(tmp_path):
  done = []

  def write(k):
    with locked(tmp_path, 'evaluate', wait=30):
      before = len(done)
      time.sleep(0.01)
      assert len(done) == before
      done.append(k)

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(write, range(8)))
  assert sorted(done) == [*range(8)]


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'pwrite', full)
  with pytest.raises(OSError, match=rf"No space.*'{tmp_path}/{LOCK}'"):
    Lock(tmp_path, 'train').__enter__()
  assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_needs_none(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'access', lambda *_: False)
  with locked(tmp_path, 'train'):
    assert list(tmp_path.iterdir()) == []


def test_a_process_is_known_by_its_start():
  this = Process.this()
  assert this.is_here and not this.has_ended
  assert dataclasses.replace(this, started='0').has_ended
  assert not dataclasses.replace(this, machine='x').is_here
  child = subprocess.Popen([sys.executable, '-c', ''])
  os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
  assert dataclasses.replace(this, pid=child.pid).has_ended  # a zombie
  child.wait()
  assert dataclasses.replace(this, pid=child.pid, started='').has_ended
