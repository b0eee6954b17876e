"""Shares of the slow tests: all come round, and none takes much longer."""

import collections
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from shares import RECORD, deal, read_share, recorded, share_of

ROOT = pathlib.Path(__file__).parents[1]
TOY = """\
import pytest

@pytest.mark.slow
@pytest.mark.parametrize('x', [1, 2])
@pytest.mark.parametrize('y', range(8))
def test_pair(x, y): ...

def test_fast(): ...
""" + ''.join(f'@pytest.mark.slow\ndef test_{i}(): ...\n' for i in range(8))


def collect(folder, *options):
  done = subprocess.run(
    [sys.executable, '-m', 'pytest', '-n0', '--collect-only', '-q', *options],
    cwd=folder,
    capture_output=True,
    text=True,
  )
  return done.returncode, re.findall('tests/.*::.*', done.stdout), done.stderr


@pytest.fixture
def folder(tmp_path):
  shutil.copy(ROOT / 'pyproject.toml', tmp_path)
  (tmp_path / 'tests').mkdir()
  for name in ('conftest.py', 'shares.py', RECORD.name):
    shutil.copy(ROOT / 'tests' / name, tmp_path / 'tests')
  (tmp_path / 'tests/test_toy.py').write_text(TOY)
  return tmp_path


def test_every_slow_test_is_in_exactly_one_share(folder):
  _, every, _ = collect(folder, '-m', 'slow')
  assert len(every) == 24
  parts = [
    collect(folder, '-m', 'slow', f'--slow-share={k}/2')[1] for k in '12'
  ]
  assert all(parts)
  assert sorted(parts[0] + parts[1]) == sorted(every)
  first, second = ({x.partition('[')[0] for x in part} for part in parts)
  assert first & second == set()


def test_a_share_leaves_the_fast_tests(folder):
  code, found, _ = collect(folder, '--slow-share=1/2')
  assert (code, found) == (0, ['tests/test_toy.py::test_fast'])


@pytest.mark.parametrize(
  'wrong', ['3', '0/3', '4/3', '1/0', 'a/b', '-1/3', '1/2/3']
)
def test_what_is_no_share_is_refused(wrong):
  with pytest.raises(ValueError, match=f'--slow-share = {wrong} must be K/N'):
    read_share(wrong)


def test_pytest_refuses_it_too(folder):
  code, _, stderr = collect(folder, '--slow-share=3/2')
  assert code == pytest.ExitCode.USAGE_ERROR
  assert '--slow-share = 3/2 must be K/N with 1 <= K <= N' in stderr


@pytest.mark.parametrize('count', [2, 3])
def test_shares_take_about_as_long(count):
  totals = collections.Counter()
  for test, seconds in recorded().items():
    totals[share_of(test, count)] += seconds
  assert totals.keys() == set(range(1, count + 1))
  assert max(totals.values()) < 1.1 * min(totals.values())


def test_a_new_test_moves_no_other():
  before = dict(deal(3))
  new = [f'tests/test_new.py::test_{i}' for i in range(300)]
  sizes = collections.Counter(share_of(test, 3) for test in new)
  assert min(sizes.values()) > 80
  assert deal(3) == before
  assert share_of(f'{new[0]}[a-1]', 3) == share_of(new[0], 3)


def test_the_record_has_no_test_that_is_gone():
  gone = [
    test
    for test in recorded()
    for file, _, function in [test.partition('::')]
    if not (ROOT / file).exists()
    or f'def {function}(' not in (ROOT / file).read_text('utf-8')
  ]
  assert gone == []


def git(folder, *words):
  identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.com']
  subprocess.run(
    ['git', *identity, *words], cwd=folder, check=True, capture_output=True
  )


def share_of_head(folder):
  done = subprocess.run(
    [folder / '.ci/slow_share', '3'], capture_output=True, text=True, check=True
  )
  return read_share(done.stdout.strip())


def test_consecutive_commits_have_consecutive_shares(tmp_path):
  origin = tmp_path / 'origin'
  (origin / '.ci').mkdir(parents=True)
  shutil.copy(ROOT / '.ci/slow_share', origin / '.ci')
  git(origin, 'init', '--initial-branch=main')
  git(origin, 'add', '.')
  found = []
  for number in range(4):
    git(origin, 'commit', '--allow-empty', '--message', f'{number}')
    found.append(share_of_head(origin))
  assert found == [(2, 3), (3, 3), (1, 3), (2, 3)]
  git(tmp_path, 'clone', '--depth=1', origin.as_uri(), 'shallow')
  shallow = share_of_head(tmp_path / 'shallow')
  assert shallow[1] == 3 and shallow == share_of_head(tmp_path / 'shallow')
