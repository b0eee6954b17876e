"""The tool, on a toy package of one function and one weak test."""

import pathlib
import subprocess
import sys

import mutation
import pytest
from mutants import mutants_of, sample

TOOL = pathlib.Path(__file__).with_name('mutation.py')
TOY = {
  'toy/__init__.py': '',
  'toy/clip.py': 'def clip(x):\n  return max(x, 0)\n',
  'tests/test_clip.py': (
    'from toy.clip import clip\n\ndef test_clip():\n  assert clip(2) == 2\n'
  ),
}
SURVIVOR = 'clip: return max(x, 0) -> return max(x, 1)'
LEFT_ALONE = '''"""Text."""

from typing import Protocol

Array = float


class Rule(Protocol):
  """A type."""

  def __call__(self, x: float = 1) -> Array: ...


@print(1 + 1)
def half(x: 'Array'):
  """Text."""
  raise ValueError('x must be ' + f'{x + 1}')
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name, text in TOY.items():
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  return tmp_path


def run(*options):
  done = subprocess.run(
    [sys.executable, TOOL, 'toy', *options], capture_output=True, text=True
  )
  assert done.stderr == ''
  *lines, last = done.stdout.splitlines()
  return done.returncode, lines, last


def test_it_lists_what_survives_goes_on_and_knows_reasons(folder):
  code, lines, last = run('--sample=99', '--jobs=2')
  assert code == 1
  assert sum(line.startswith('killed ') for line in lines) == 4
  assert lines[-1] == f'survived: toy/clip.py:2  {SURVIVOR}'
  assert last == '4 of 5 killed, 0 survive for a reason'

  results = folder / '.mutation/results.jsonl'
  results.write_text(''.join(results.read_text().splitlines(True)[:3]))
  reasons = folder / 'tests/mutation_survivors.toml'
  reasons.write_text(f'["toy/clip.py"]\n"{SURVIVOR}" = "who would want that"\n')
  code, lines, last = run()
  assert (code, len(lines)) == (0, 2)  # of 5
  assert last == '4 of 5 killed, 1 survive for a reason'

  (folder / 'toy/clip.py').write_text('def clip(x):\n  return x\n')
  code, lines, _ = run()
  assert code == 1
  assert lines == [
    f'has a reason, but is killed or gone: toy/clip.py  {SURVIVOR}'
  ]


def test_a_result_holds_as_long_as_the_module_and_its_tests(folder):
  files = ['toy/clip.py', *mutation.tests_of('toy/clip.py')]
  assert files[1:] == mutation.tests_of('toy/other.py') == [*TOY][2:]
  states = [mutation.digest(*files)]
  for file in files:
    (folder / file).write_text('changed')
    states.append(mutation.digest(*files))
  assert len(set(states)) == 3
  mutation.write_result(('toy/clip.py', 'a -> b'), states[1], 'killed')
  for state in states:
    known = mutation.read_results({'toy/clip.py': state})
    assert known == (
      {('toy/clip.py', 'a -> b'): 'killed'} if state == states[1] else {}
    )


def test_what_runs_for_ever_is_stopped(folder):
  (folder / 'tests/test_clip.py').write_text('while True: pass')
  program = (
    'import mutation\n'
    'def call(): return mutation.run_tests(["tests/test_clip.py"], 1)\n'
    'print(*mutation.in_forks([("name", call)], jobs=1))'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={'PYTHONPATH': str(TOOL.parent)},
    capture_output=True,
    text=True,
  )
  assert done.stdout.startswith("('name', -24, "), done.stderr  # SIGXCPU


def test_mutants_are_one_change_each_and_leave_words_alone(folder):
  (folder / 'toy/clip.py').write_text(LEFT_ALONE + 'T = (1, True)\n')
  found = list(mutants_of('toy/clip.py'))
  assert [str(mutant) for mutant in found] == [
    'toy/clip.py:18  module: T = (1, True) -> T = None',
    'toy/clip.py:18  module: T = (1, True) -> T = (2, True)',
    'toy/clip.py:18  module: T = (1, True) -> T = (1, False)',
  ]
  assert found[1].source == LEFT_ALONE + 'T = (2, True)\n'


def test_a_sample_takes_its_share_of_every_module(folder):
  (folder / 'toy/many.py').write_text('T = (1, 2, 3, 4, 5, 6, 7, 8, 9)\n')
  everyone = [m for n in ('clip', 'many') for m in mutants_of(f'toy/{n}.py')]
  assert len(everyone) == 15
  six = sample(everyone, 6, seed=0)
  assert sum(mutant.path == 'toy/many.py' for mutant in six) == 4
  assert six[:3] == sample(reversed(everyone), 3, seed=0)
  assert len({m.key for m in (*six, *sample(everyone, 6, seed=1))}) > 6
