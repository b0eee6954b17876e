"""Files are replaced whole, never through a link, and leave nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from flowdistill.datasets.shards import write_whole
from flowdistill.evaluators import canvas
from flowdistill.files.atomic import (
  DAY,
  append,
  naming,
  remove_leftovers,
  replacing,
  write_atomically,
)
from flowdistill.training.heartbeat import Heartbeat, write_heartbeat
from flowdistill.training.json_files import write_json
from flowdistill.training.log import METRICS, MetricLog


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / ('n' * 250)
  write_atomically(path, b'old')
  with pytest.raises(KeyboardInterrupt):
    with replacing(path) as file:
      file.write(b'half')
      raise KeyboardInterrupt
  assert path.read_bytes() == b'old'
  write_atomically(path, b'new')
  assert path.read_bytes() == b'new'
  assert os.listdir(tmp_path) == [path.name]
  assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
  now = os.umask(0)
  os.umask(now)
  return now


def figure(path):
  canvas.save(canvas.new_figure(1, 1), path)


WRITERS = {
  'json': lambda path: write_json(path, {}),
  'figure': figure,
  'shard': lambda path: write_whole(path, b'rows'),
}


@pytest.mark.parametrize('writer', WRITERS)
@pytest.mark.parametrize('name', ['{}', '{}.tmp', '{}.part'])
def test_a_planted_link_is_not_followed(writer, name, tmp_path):
  victim, path = tmp_path / 'victim', tmp_path / 'w' / 'file'
  victim.write_text('precious')
  path.parent.mkdir()
  (path.parent / name.format('file')).symlink_to(victim)
  WRITERS[writer](path)
  assert victim.read_text() == 'precious'
  assert path.is_file() and not path.is_symlink()


def test_a_link_in_place_of_a_log_or_a_heartbeat_is_refused(tmp_path):
  victim = tmp_path / 'victim'
  (tmp_path / METRICS).symlink_to(victim)
  with pytest.raises(OSError, match=f'{METRICS}'):
    MetricLog(tmp_path, resume_step=0)
  with pytest.raises(OSError, match=f'{METRICS}'):
    append(tmp_path / METRICS)
  with pytest.raises(OSError, match=f'{METRICS}'):
    write_heartbeat(tmp_path / METRICS, Heartbeat())
  assert not victim.exists()


def test_an_error_names_the_file_and_not_the_temporary(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    write_atomically(tmp_path / 'none' / 'a', b'')
  assert error.value.filename == f'{tmp_path}/none/a'
  (tmp_path / 'b').mkdir()
  with pytest.raises(OSError, match='directory') as error:
    write_atomically(tmp_path / 'b', b'')
  assert error.value.filename == f'{tmp_path}/b' and not error.value.filename2
  assert os.listdir(tmp_path) == ['b']


@pytest.mark.parametrize(
  ('error', 'text'),
  [
    (OSError(28, 'full'), "[Errno 28] full: 'W/a'"),
    (OSError('a whole sentence'), 'a whole sentence'),
    (OSError(1, 'no', 'b', None, 'c'), "[Errno 1] no: 'b' -> 'c'"),
    (OSError(1, 'no', f'W/.{16 * "0"}.tmp'), "[Errno 1] no: 'W/a'"),
    (OSError(1, 'no', f'W/.{16 * "0"}.tmp', None, 'c'), "[Errno 1] no: 'W/a'"),
  ],
)
def test_what_an_error_says_of_its_file(error, text):
  with pytest.raises(OSError, match=f'^{re.escape(text)}$'), naming('W/a'):
    raise error


def test_leftovers_go_and_nothing_else(tmp_path):
  inner = tmp_path / 'evaluations'
  inner.mkdir()
  temporary = f'.{"0a" * 8}.tmp'
  names = [temporary, 'config.json', '.mine.tmp', f'{temporary}.x']
  for folder in (tmp_path, inner):
    for name in names:
      (folder / name).touch()
  remove_leftovers(tmp_path)
  assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], 'evaluations'])
  remove_leftovers(tmp_path, DAY)
  assert sorted(os.listdir(inner)) == sorted(names)
  os.utime(inner / temporary, (time.time() - 2 * DAY,) * 2)
  remove_leftovers(tmp_path, DAY)
  assert sorted(os.listdir(inner)) == sorted(names[1:])


def test_a_folder_that_vanishes_meanwhile_is_no_error(tmp_path, monkeypatch):
  (tmp_path / 'guard').mkdir()
  scandir = os.scandir

  def scan(path):
    if os.fspath(path).endswith('guard'):
      os.rmdir(path)
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', scan)
  remove_leftovers(tmp_path, DAY)
  assert not (tmp_path / 'guard').exists()


KILLED = """
import os, pathlib, signal, sys
from flowdistill.files.atomic import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
  file.write(b'half')
  file.flush()
  os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_kill_leaves_the_old_file(tmp_path):
  write_atomically(tmp_path / 'a', b'old')
  done = subprocess.run([sys.executable, '-c', KILLED, tmp_path / 'a'])
  assert done.returncode == -signal.SIGKILL
  assert (tmp_path / 'a').read_bytes() == b'old'
  assert len(os.listdir(tmp_path)) == 2
  remove_leftovers(tmp_path)
  assert os.listdir(tmp_path) == ['a']
