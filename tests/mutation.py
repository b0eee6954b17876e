"""Mutation testing: does a test fail when a line of the mathematics is changed?

  python tests/mutation.py --sample 300 --seed 0 [paths; by default three rooms]

Samples mutants (mutants.py), runs the tests of the changed module against each,
and lists those that no test detects. It fails if they are more than 5 %, not
counting those that mutation_survivors.toml explains. Results stay in .mutation/
until the module or one of its test files changes, so that a run that was killed
continues where it stopped.

mutmut's own runner skips decorated functions and module constants, and tests a
function with the tests that it has seen calling it, but a program compiled by
JAX calls no function. Here one process imports everything once and forks for
each mutant. It uses no device before that: XLA's threads do not survive a fork.
"""

import argparse
import functools
import hashlib
import importlib.machinery
import importlib.util
import itertools
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import hypothesis
import pytest
from mutants import Mutant, mutants_of, sample

Key = tuple[str, str]
ROOMS = ['flowdistill/objectives', 'flowdistill/samplers', 'flowdistill/flow']
RESULTS = pathlib.Path('.mutation/results.jsonl')
REASONS = pathlib.Path('tests/mutation_survivors.toml')
GOAL = 0.95
# Modules whose tests are not in tests/<room>/test_<module>.py.
TESTS = {
  'objectives/align_your_flow': ['align_your_flow', 'guided'],
  'objectives/kinds': ['twinflow'],
  'objectives/recursion': ['rcgm', 'twinflow'],
  'objectives/regression': ['align_your_flow', 'consistency', 'flow_anchored'],
  'samplers/control': ['rk45'],
  'samplers/integrate': ['samplers', 'rk45', 'guided'],
  'samplers/ode': ['ode', 'plan', 'guided'],
  'samplers/sampler': ['samplers', 'jumps'],
  'samplers/solve': ['guided', 'rk45'],
}


def main() -> int:
  """Runs the mutants without a result, reports, and returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('paths', nargs='*', default=ROOMS, help='folders, files')
  parser.add_argument('--sample', type=int, default=300, help='mutants')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--jobs', type=int, default=1, help='in parallel')
  options = parser.parse_args()
  paths = modules(options.paths)
  everyone = [mutant for path in paths for mutant in mutants_of(path)]
  chosen = sample(everyone, options.sample, options.seed)
  tests = {path: tests_of(path) for path in {m.path for m in chosen}}
  state = {path: digest(path, *files) for path, files in tests.items()}
  outcomes = read_results(state)
  if todo := [m for m in chosen if m.key not in outcomes]:
    with tempfile.TemporaryDirectory() as cache:
      import_once(todo[0].path.split('/')[0], cache)
      for mutant, outcome, seconds in judge(todo, tests, options.jobs):
        print(f'{outcome:8} {seconds:5.1f} s  {mutant}', flush=True)
        write_result(mutant.key, state[mutant.path], outcome)
        outcomes[mutant.key] = outcome
  reasons = read_reasons(paths)
  return report(chosen, outcomes, reasons, reasons - {m.key for m in everyone})


def modules(paths: list[str]) -> list[str]:
  """The Python files among the paths and in the folders among them."""
  roots = [pathlib.Path(path) for path in paths]
  found = [[r] if r.is_file() else r.rglob('*.py') for r in roots]
  return sorted({path.as_posix() for path in itertools.chain(*found)})


def tests_of(path: str) -> list[str]:
  """The test files of a module: its own, or else all those of its room."""
  _, *room, name = pathlib.PurePath(path).with_suffix('').parts
  names = TESTS.get('/'.join([*room, name]), [name])
  folder = pathlib.Path('tests', *room)
  if (folder / 'test_defaults.py').exists():
    names = [*names, 'defaults']
  files = [folder / f'test_{name}.py' for name in names]
  if not all(file.exists() for file in files):
    files = sorted(folder.glob('test_*.py'))
  return [file.as_posix() for file in files]


def digest(*paths: str) -> str:
  contents = (pathlib.Path(path).read_bytes() for path in paths)
  return hashlib.sha256(b'\0'.join(contents)).hexdigest()


def read_results(state: Mapping[str, str]) -> dict[Key, str]:
  """Key -> outcome, for modules that are unchanged since."""
  lines = RESULTS.read_text('utf-8').splitlines() if RESULTS.exists() else []
  return {
    (row['path'], row['change']): row['outcome']
    for row in map(json.loads, lines)
    if row['state'] == state.get(row['path'])
  }


def write_result(key: Key, state: str, outcome: str) -> None:
  path, change = key
  row = {'path': path, 'change': change, 'state': state, 'outcome': outcome}
  RESULTS.parent.mkdir(exist_ok=True)
  with RESULTS.open('a', encoding='utf-8') as file:
    file.write(json.dumps(row, ensure_ascii=False) + '\n')


def read_reasons(paths: Iterable[str]) -> set[Key]:
  """The mutants of these modules whose survival has a recorded reason."""
  text = REASONS.read_text('utf-8') if REASONS.exists() else ''
  tables = tomllib.loads(text)
  return {(path, change) for path in paths for change in tables.get(path, ())}


def report(
  mutants: list[Mutant],
  outcomes: Mapping[Key, str],
  reasons: set[Key],
  gone: set[Key],
) -> int:
  """Lists the survivors; returns 1 if too many have no reason, else 0."""
  alive = {m.key for m in mutants if outcomes[m.key] == 'survived'}
  dead = {m.key for m in mutants} - alive
  for mutant in mutants:
    if mutant.key in alive - reasons:
      print(f'survived: {mutant}')
  stale = gone | (reasons & dead)
  for path, change in sorted(stale):
    print(f'has a reason, but is killed or gone: {path}  {change}')
  excused = len(alive & reasons)
  print(f'{len(dead)} of {len(mutants)} killed, {excused} survive for a reason')
  return int(len(dead) < GOAL * (len(mutants) - excused) or bool(stale))


def judge(
  mutants: list[Mutant], tests: Mapping[str, list[str]], jobs: int
) -> Iterator[tuple[Mutant, str, float]]:
  """(mutant, 'killed', 'timeout' or 'survived', CPU seconds), as they end."""
  files = sorted({file for m in mutants for file in tests[m.path]})
  clean = [(f, functools.partial(run_tests, [f], 600)) for f in files]
  cost = {}
  for file, code, seconds in in_forks(clean, jobs):
    if code:
      sys.exit(f'{file} fails without a mutant, with exit code {code}')
    cost[file] = seconds

  def call(mutant: Mutant) -> Callable[[], int]:
    files = sorted(tests[mutant.path], key=cost.__getitem__)
    limit = 3 * sum(cost[file] for file in files) + 10
    return functools.partial(run_tests, files, limit, mutant)

  names = dict.fromkeys((-signal.SIGXCPU, -signal.SIGALRM), 'timeout')
  for mutant, code, seconds in in_forks(((m, call(m)) for m in mutants), jobs):
    yield mutant, {**names, 0: 'survived'}.get(code, 'killed'), seconds


def in_forks(
  calls: Iterable[tuple[Any, Callable[[], int]]], jobs: int
) -> Iterator[tuple[Any, int, float]]:
  """For each (key, f): key, exit code of a silent child f(), CPU seconds."""
  calls, running = iter(calls), {}
  while True:
    for key, f in itertools.islice(calls, jobs - len(running)):
      if not (pid := os.fork()):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(f())
      running[pid] = key
    if not running:
      return
    pid, status, used = os.wait4(-1, 0)
    code = os.waitstatus_to_exitcode(status)
    yield running.pop(pid), code, used.ru_utime + used.ru_stime


def run_tests(
  files: list[str], limit: float, mutant: Mutant | None = None
) -> int:
  """pytest's exit code; the process is killed after `limit` CPU seconds."""

  class NoShrinking:
    def pytest_collection(self) -> None:  # after conftest.py set its profile
      phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
      hypothesis.settings.register_profile('mutation', phases=phases)
      hypothesis.settings.load_profile('mutation')

  if mutant:
    sys.meta_path.insert(0, Swapped(mutant))
  resource.setrlimit(resource.RLIMIT_CPU, (round(limit), round(limit) + 5))
  signal.alarm(round(10 * limit))  # wall-clock seconds, if it only waits
  options = ['-x', '-n0', '-p', 'no:cacheprovider', '-p', 'no:randomly']
  return pytest.main([*options, *files], plugins=[NoShrinking()])


class Swapped(importlib.machinery.SourceFileLoader):
  """Finds and loads one module from the source of a mutant."""

  def __init__(self, mutant: Mutant) -> None:
    path = pathlib.Path(mutant.path)
    name = '.'.join(path.with_suffix('').parts).removesuffix('.__init__')
    super().__init__(name, str(path.absolute()))
    self.source = mutant.source

  def find_spec(self, name: str, *_: Any) -> Any:
    found = name == self.name
    return importlib.util.spec_from_loader(name, self) if found else None

  def get_code(self, fullname: str) -> Any:
    return compile(self.source, self.path, 'exec', dont_inherit=True)


def import_once(package: str, cache: str) -> None:
  """Imports what the tests will import, then unloads the package itself."""
  os.environ |= {
    'JAX_COMPILATION_CACHE_DIR': cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false',
    'OMP_NUM_THREADS': '1',
  }
  sys.path.insert(0, str(pathlib.Path.cwd()))
  importlib.import_module(package)
  for name in [n for n in sys.modules if n.split('.')[0] == package]:
    del sys.modules[name]


if __name__ == '__main__':
  sys.exit(main())
