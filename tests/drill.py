"""A fault drill: a run on two hosts, disturbed again and again, ends the same.

  python tests/drill.py --faults 20 --seed 0

Trains once undisturbed. Then, after each of the faults, the same command is
started again, as the scripts of launch/ do. What each must come to is in its
function below; in the end every array, results.json and metrics.jsonl are those
of the undisturbed run to the byte, but for the milliseconds in them.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter

from jobs import hosts, tiny

from flowdistill.training.checkpoint import completed_steps
from flowdistill.training.heartbeat import read_heartbeat

CONFIG = pathlib.Path(__file__).parent / 'jobs' / 'drilled.py'
KEEP = 3  # as in that config
NAMED = r'error: process {} did not arrive at step \d+: it {}'
MOMENTS = ('starting', 'training', 'saving')
# What is read of these small arrays; the other files may be cut unnoticed.
NEEDED = ('d/*', 'manifest.ocdbt', '_*', 'array_metadatas/*')
FULL = 3000  # bytes to which a file can grow on the full disk


def main() -> int:
  """Prints a line for each fault and a summary; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--faults', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--limit', type=float, default=1800, help='seconds')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    keep_programs(folder)
    kinds = schedule(options.faults, options.seed)
    drill(pathlib.Path(folder), kinds, options.seed, options.limit)
  return 0


def keep_programs(folder):
  """Compiled programs are read again at every start, where JAX can do that."""
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{folder}/programs')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'


def schedule(count, seed):
  """Every kind as often as every other, in a random order; first a kill."""
  kinds = [list(FAULTS)[i % len(FAULTS)] for i in range(count)][1:]
  random.Random(seed).shuffle(kinds)
  return ['kill', *kinds]


def drill(folder, kinds, seed, limit):
  """Raises AssertionError where a fault has another outcome than it should."""
  end, steps = time.monotonic() + limit, 20 + 6 * len(kinds)
  rng, run = random.Random(seed), Run(folder / 'undisturbed', steps, end)
  begun = time.monotonic()
  run.finish()
  print(f'undisturbed: {steps} steps in {time.monotonic() - begun:.0f} s')
  expected, run = run.outcome(), Run(folder / 'disturbed', steps, end)
  for number, kind in enumerate(kinds, start=1):
    began, before = time.monotonic(), run.saved()
    fault = FAULTS[kind](run, rng)
    run.check_kept(before, but=fault.removed)
    took = time.monotonic() - began
    print(f'{number:3} {kind:9} {fault.text}, {took:.1f} s', flush=True)
  run.finish()
  assert_same(run.outcome(), expected)
  total = ', '.join(f'{kind} {n}' for kind, n in Counter(kinds).items())
  took = time.monotonic() - begun
  print(f'{len(kinds)} faults ({total}), the same to the byte, {took:.0f} s')


def assert_same(outcome, expected):
  arrays, rows = outcome
  tiny.assert_same_bytes(arrays, expected[0])
  for name, lines in rows.items():
    assert lines == expected[1][name], f'{name} differs'


@dataclasses.dataclass
class Happened:
  """A fault that came out as it should, and the checkpoint it cost."""

  text: str
  removed: int | None = None


class Run:
  """A workdir, and the command that is started in it again and again."""

  def __init__(self, workdir, steps, end):
    self.workdir, self.end = workdir, end
    self.steps = f'--config.train.steps={steps}'
    self.checkpoints = workdir / 'checkpoints'
    self.processes, self.started, self.base = [], 0.0, 0

  def start(self):
    self.started, self.base = time.time(), max(self.saved(), default=0)
    self.processes = hosts.start_all(self.workdir, CONFIG, self.steps)

  @contextlib.contextmanager
  def running(self):
    """Starts it; in the end no process is left, whatever happens."""
    self.start()
    try:
      yield
    finally:
      for process in self.processes:
        process.kill()

  def finish(self):
    with self.running():
      ended = self.ended(seconds=self.left())
    assert [code for code, *_ in ended] == [0, 0], ended

  def ended(self, who=(0, 1), seconds=240):
    """(exit code, stdout, stderr) of these hosts."""
    chosen = [self.processes[i] for i in who]
    return hosts.end_all(chosen, min(self.left(), seconds))

  def left(self):
    seconds = self.end - time.monotonic()
    assert seconds > 0, 'the drill has taken longer than its limit'
    return seconds

  def wait_for(self, moment, rng):
    """Waits for a moment, and says at which step it came.

    The first fault waits for a checkpoint, which some of the others need.
    """
    moment = moment if self.saved() else 'training'
    ready, delay = getattr(self, moment), rng.uniform(0, 3)
    ahead = rng.randint(1, 9)
    while not ready(ahead):
      assert self.left()
      for process in self.processes:
        assert process.poll() is None, process.communicate()
      time.sleep(0.005)
    time.sleep({'starting': delay, 'saving': delay / 10}.get(moment, 0))
    return f'{moment} at step {self.step()}'

  def starting(self, _=0):
    """Whether all hosts have given a sign of life."""
    paths = [self.workdir / 'hosts' / f'{i}.json' for i in range(2)]
    signs = [read_heartbeat(path) for path in paths]
    return all(sign and sign.pulse > self.started for sign in signs)

  def training(self, ahead):
    """Whether it has gone that many steps on from where it was saved."""
    path = self.workdir / 'metrics.jsonl'
    if not (self.starting() and path.is_file()):
      return False
    now = path.stat().st_mtime > self.started
    saved = any(p.name.isdigit() for p in self.checkpoints.glob('*'))
    return now and saved and self.step() >= self.base + ahead

  def saving(self, ahead):
    return self.training(ahead) and any(self.checkpoints.glob('*-tmp'))

  def step(self):
    """The last step in its metrics."""
    path = self.workdir / 'metrics.jsonl'
    lines = path.read_text().splitlines(True) if path.is_file() else []
    whole = [line for line in lines if line.endswith('\n')]
    return json.loads(whole[-1])['step'] if whole else 0

  def saved(self):
    return completed_steps(self.checkpoints)

  def check_kept(self, before, but=None):
    """A checkpoint that was complete is there, or there are newer ones."""
    after = self.saved()
    for step in before:
      newer = [s for s in after if s > step]
      kept = step in after or step == but or len(newer) >= KEEP
      assert kept, f'the checkpoint {step} of {before} is lost: {after}'

  def outcome(self):
    """Every array by name, and the lines of both files without times."""
    rows = json.loads((self.workdir / 'results.json').read_text())
    lines = (self.workdir / 'metrics.jsonl').read_text().splitlines()
    return tiny.arrays(self.workdir), {
      'results.json': [timeless(row) for row in rows],
      'metrics.jsonl': [timeless(json.loads(line)) for line in lines],
    }


def timeless(row):
  return {k: v for k, v in row.items() if not k.endswith('ms_per_image')}


def assert_lost(run, told):
  """The other host names the one that is gone, and may be started again."""
  (other,) = {0, 1} - {told}
  ((code, _, errors),) = run.ended([other])
  assert code == 75, (code, errors)
  assert re.search(NAMED.format(told, 'has given no sign'), errors), errors


def kill(run, rng):
  """One host or both at once: the other names it."""
  who = rng.choice([[0], [1], [0, 1]])
  with run.running():
    when = run.wait_for(rng.choice(MOMENTS), rng)
    for i in who:
      run.processes[i].kill()
    if len(who) == 1:
      assert_lost(run, *who)
  return Happened(f'process {who} {when}')


def freeze(run, rng):
  """The other names it; then it is killed."""
  told = rng.randrange(2)
  with run.running():
    when = run.wait_for(rng.choice(MOMENTS), rng)
    run.processes[told].send_signal(signal.SIGSTOP)
    assert_lost(run, told)
  return Happened(f'process {told} {when}')


def terminate(run, rng):
  """Both save the same step; one that is not yet training is lost."""
  told = rng.randrange(2)
  with run.running():
    when = run.wait_for(rng.choice(MOMENTS), rng)
    run.processes[told].terminate()
    if run.processes[told].wait(60) == -signal.SIGTERM:
      assert_lost(run, told)
    else:
      (first, second) = run.ended()
      assert (first[0], second[0]) == (75, 75), (first, second)
      step = re.search(r'stopped and saved at step (\d+)', first[1])
      assert step and int(step[1]) in run.saved(), first
  return Happened(f'process {told} {when}')


def fill(run, rng):
  """The disk is full for one host: both fail, with what cannot be written."""
  told = rng.randrange(2)
  with run.running():
    when = run.wait_for('training', rng)
    limit = (FULL, resource.RLIM_INFINITY)
    resource.prlimit(run.processes[told].pid, resource.RLIMIT_FSIZE, limit)
    ended = run.ended()
    assert [code for code, *_ in ended] == [1, 1], ended
    full, errors = 'File too large', ended[told][2]
    assert full in errors and str(run.workdir) in errors, errors
    assert re.search(NAMED.format(told, 'failed'), ended[1 - told][2]), ended
  return Happened(f'process {told} {when}')


def truncate(run, rng):
  """A file of the last checkpoint is cut: it says which folder to remove."""
  last = run.checkpoints / str(run.saved()[-1])
  files = [f for p in NEEDED for f in sorted((last / 'state').glob(p))]
  file = rng.choice(files)
  os.truncate(file, int(rng.random() * file.stat().st_size))
  with run.running():
    ended = run.ended()
  assert {code for code, *_ in ended} <= {1, 2}, ended
  told = re.search(r'checkpoint (\S+) cannot be read', ended[0][2])
  assert told and 'remove that folder' in ended[0][2], ended
  assert pathlib.Path(told[1]) == last
  shutil.rmtree(last)
  return Happened(f'{file.relative_to(run.checkpoints)}', int(last.name))


def refill(run, rng):
  """The folder is full of what killed saves have left: it is removed."""
  last = run.checkpoints / str(run.saved()[-1])
  half = run.checkpoints / f'{int(last.name) + 3}.orbax-checkpoint-tmp'
  shutil.copytree(last, half, dirs_exist_ok=True)
  for file in [path for path in half.rglob('*') if path.is_file()]:
    os.truncate(file, int(rng.random() * file.stat().st_size))
  with run.running():
    when = run.wait_for('training', rng)
    for process in run.processes:
      process.kill()
  return Happened(f'{half.name}, then both killed {when}')


FAULTS = {
  f.__name__: f for f in (kill, freeze, terminate, fill, truncate, refill)
}


if __name__ == '__main__':
  sys.exit(main())
