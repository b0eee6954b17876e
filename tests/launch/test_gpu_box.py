"""gpu_box.sh: the loop that restarts a preempted run."""

import os
import signal
import subprocess
import time

import pytest

LINE = ['--config=configs/quickstart.py', '--workdir=runs/a b']
MAIN = [
  *('python', '-m', 'flowdistill.main', '--config=configs/quickstart.py'),
  '--workdir=runs/a b',
]


@pytest.mark.parametrize('code', [0, 1, 2, 3])
def test_it_ends_with_the_training(machine, code):
  machine.reply(('python', [code]))
  done = machine.run('gpu_box.sh', *LINE, '--', '--config.a={"b": 1}', '')
  assert (done.returncode, done.stderr) == (code, '')
  assert machine.calls == [[*MAIN, '--config.a={"b": 1}', '']]


def test_what_was_preempted_or_killed_starts_again(machine):
  machine.reply(('python', [75, 137, 'kill -KILL $$', 0]))
  done = machine.run('gpu_box.sh', *LINE, '--interval=0')
  assert done.returncode == 0
  assert machine.calls == [MAIN] * 4


def test_the_pause_doubles_up_to_ten_minutes(machine):
  machine.add('sleep')
  machine.reply(('python', [*[75] * 8, 0]))
  machine.run('gpu_box.sh', *LINE, '--interval=10')
  pauses = [int(call[1]) for call in machine.calls if call[0] == 'sleep']
  assert pauses == [10, 20, 40, 80, 160, 320, 600, 600]


def test_restarts_have_a_limit(machine):
  machine.reply(('python', [75]))
  done = machine.run('gpu_box.sh', *LINE, '--interval=0', '--restarts=2')
  assert done.returncode == 75
  assert machine.calls == [MAIN] * 3
  assert done.stderr.endswith('error: gave up; --restarts=N allows more\n')


def stop(machine, number, *line):
  """Starts gpu_box.sh, and signals it once its python or sleep is running."""
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  box = subprocess.Popen(
    # A shell that was started with SIGINT ignored cannot trap it.
    ['env', '--default-signal=INT', f'{root}/launch/gpu_box.sh', *LINE, *line],
    env=machine.environment | {'READY': f'{machine.folder}/ready'},
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 30
  while not (machine.folder / 'ready').exists():
    assert time.monotonic() < deadline
    time.sleep(0.01)
  box.send_signal(number)
  return box.wait(timeout=30)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_it(machine, number):
  training = (
    'trap "sleep 0.1; exit 75" TERM; touch "$READY"; while :; do sleep 0.01;'
    ' done'
  )
  machine.reply(('python', [training]))
  assert stop(machine, number, '--interval=0') == 75
  assert machine.calls == [MAIN]


def test_a_signal_between_two_attempts_ends_it(machine):
  machine.add('sleep')
  machine.reply(
    ('python', [137]), ('sleep', ['touch "$READY"; exec /bin/sleep 30'])
  )
  assert stop(machine, signal.SIGTERM, '--interval=30') == 137
  assert machine.calls == [MAIN, ['sleep', '30']]
