"""The command as a process: signals, streams and machines that lack something.

Its flags: tests/config; refusals in one line: tests/mistyped.py.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest
from jobs import tiny

from flowdistill.main import surroundings
from flowdistill.training.checkpoint import completed_steps

SMALL = [f'--config.{text}' for text in tiny.UNMEASURED]
LONG = [*SMALL, '--config.stages.flow.train.steps=5000', '--config.log.every=1']


def command(workdir, *options):
  start = [sys.executable, '-m', 'flowdistill.main', '--config', tiny.TOY]
  return [*start, '--workdir', str(workdir), *options]


def start(workdir, *options, **env):
  return subprocess.Popen(
    command(workdir, *options),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **env},
    preexec_fn=hear_hangups,
  )


def hear_hangups():
  """Under nohup it would be ignored, here as in what is started."""
  signal.signal(signal.SIGHUP, signal.SIG_DFL)


def stopped(process, ready, *numbers):
  """Sends signals once it is ready; returns what it says."""
  end = time.monotonic() + 120
  while not ready():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end, 'it was never ready'
    time.sleep(0.002)
  for number in numbers:
    process.send_signal(number)
    time.sleep(0.005)
  return process.communicate(timeout=60)


def logged(workdir, count):
  path = workdir / 'flow' / 'metrics.jsonl'
  return path.is_file() and path.read_text().count('\n') >= count


def tails(errors):
  """The lines of stderr, without the log and its tables."""
  lines = errors.splitlines()
  return [x for x in lines if not x.startswith(('I1', 'I0', '+', '|', 'Total'))]


def test_what_a_machine_lacks_is_said(monkeypatch):
  home = RuntimeError('Could not determine home directory.')
  assert 'set HOME' in surroundings(home)
  assert surroundings(RuntimeError('another')) == ''

  def devices():
    raise AssertionError

  monkeypatch.setattr(jax, 'devices', devices)
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  assert surroundings(AssertionError()) == (
    'JAX_PLATFORMS=cuda must name devices that this machine has, such as cpu.'
  )


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_before_any_step_a_signal_is_one_line(tmp_path, number):
  process = start(
    tmp_path, *LONG, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'p')
  )
  ready = (tmp_path / 'flow' / 'config.json').is_file
  _, errors = stopped(process, ready, number)
  assert process.returncode == 128 + number
  assert tails(errors) == [f'error: stopped by {signal.Signals(number).name}']


@pytest.mark.slow
@pytest.mark.parametrize(
  'number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
def test_after_a_step_it_is_saved(tmp_path, number):
  process = start(tmp_path, *LONG)
  output, errors = stopped(process, lambda: logged(tmp_path, 20), number)
  assert process.returncode == 75, errors
  (last,) = completed_steps(tmp_path / 'flow' / 'checkpoints')
  assert f'flow: stopped and saved at step {last}; run it again' in output
  assert tails(errors) == []


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_all_can_be_read(tmp_path):
  every = '--config.checkpoint.every=10'
  process = start(tmp_path, *LONG, every)
  again = 10 * [signal.SIGINT]  # two may arrive as one
  _, errors = stopped(process, lambda: logged(tmp_path, 40), *again)
  assert (process.returncode, tails(errors)) == (130, [])
  tiny.arrays(tmp_path / 'flow')
  process = start(tmp_path, *LONG, every)
  output, _ = stopped(process, lambda: logged(tmp_path, 80), signal.SIGTERM)
  assert process.returncode == 75 and 'flow: continues at step' in output


@pytest.mark.slow
def test_while_it_measures_the_result_it_is_saved(tmp_path):
  slow = {
    'name': 'energy',
    'samples': 4096,
    'sweep': {'student': [['rk4', 256]]},
  }
  more = f'--config.stages.flow.evaluators={{"slow": {slow}}}'
  process = start(tmp_path, more, *SMALL[:1])

  def ready():
    return completed_steps(tmp_path / 'flow' / 'checkpoints') == [2]

  output, errors = stopped(process, ready, signal.SIGINT)
  assert process.returncode == 75, errors
  assert 'flow at step 2 is saved; run it again' in output or (
    'stopped and saved at step 2' in output
  )
  assert not (tmp_path / 'flow' / 'results.json').exists()


@pytest.mark.slow
def test_a_hangup_is_ignored_under_nohup(tmp_path):
  process = subprocess.Popen(
    ['nohup', *command(tmp_path, *SMALL)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  stopped(process, lambda: logged(tmp_path, 1), signal.SIGHUP)
  assert process.returncode == 0


@pytest.mark.slow
def test_a_workdir_that_is_removed_is_named(tmp_path):
  every = '--config.checkpoint.every=10'
  process = start(tmp_path / 'run', *LONG, every)

  def ready():
    if not logged(tmp_path / 'run', 15):
      return False
    shutil.rmtree(tmp_path / 'run', ignore_errors=True)
    return True

  _, errors = stopped(process, ready)
  assert process.returncode == 1
  last = tails(errors)[-1]
  assert last.startswith(f'error: {tmp_path}/run/flow was removed or renamed')


@pytest.mark.slow
@pytest.mark.parametrize(
  'streams',
  [
    *('| true', '2>&1 | head -1', '>&-', '2>&-', '>&- 2>&-', '<&- >&- 2>&-'),
    '>/dev/full 2>/dev/full',
  ],
)
def test_streams_that_are_closed_do_not_end_a_training(tmp_path, streams):
  line = ' '.join(f"'{word}'" for word in command(tmp_path, *SMALL))
  done = subprocess.run(
    ['bash', '-c', f'{line} {streams}; exit ${{PIPESTATUS[0]}}'],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0
  assert (tmp_path / 'results.json').is_file()
  assert 'Traceback' not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
  'env',
  [
    {'PYTHONIOENCODING': 'ascii'},
    {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
    {'COLUMNS': '0', 'TERM': 'dumb'},
    {'TMPDIR': '/no/such', 'XDG_CACHE_HOME': '/proc/nowhere'},
  ],
)
def test_it_works_in_poor_surroundings(tmp_path, env):
  process = start(tmp_path, **env)
  _, errors = process.communicate()
  assert process.returncode == 0, errors
  assert 'Traceback' not in errors


@pytest.mark.slow
@pytest.mark.parametrize('platform', ['cuda', 'cdua'])
def test_devices_that_are_not_there_are_one_line(tmp_path, platform):
  process = start(tmp_path, JAX_PLATFORMS=platform)
  _, errors = process.communicate()
  (line,) = tails(errors)
  assert process.returncode == 2
  assert line.startswith(f'error: JAX_PLATFORMS={platform} must name devices')


@pytest.mark.parametrize(('argv', 'code'), [('-m', 130), ('a.py', -2)])
def test_ctrl_c_during_the_imports(argv, code):
  """Of the command it is one line, and of other programs an exception."""
  script = f"""
import sys

class Interrupting:
  def find_spec(self, name, path=None, target=None):
    if name == 'flowdistill.run':
      raise KeyboardInterrupt

sys.argv = [{argv!r}]
sys.meta_path.insert(0, Interrupting())
import flowdistill
"""
  process = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True
  )
  assert process.returncode == code
  if argv == '-m':
    assert process.stderr == 'error: stopped by SIGINT\n'
