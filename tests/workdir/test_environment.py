"""The software that a run was made with."""

import json
import platform
import subprocess

import jax

from flowdistill.training.json_files import jsonable
from flowdistill.workdir import environment as environment_module
from flowdistill.workdir.environment import PACKAGES, environment


def test_environment():
  found = environment()
  assert json.loads(json.dumps(found)) == jsonable(found)
  assert found['python'] == platform.python_version()
  assert found['packages']['jax'] == jax.__version__
  assert set(found['packages']) == set(PACKAGES)


def git(folder, *arguments):
  identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.com']
  subprocess.run(
    ['git', *identity, *arguments], cwd=folder, check=True, capture_output=True
  )


def test_git_knows_the_revision_and_whether_it_is_dirty(tmp_path, monkeypatch):
  file = tmp_path / 'package' / 'environment_module.py'
  file.parent.mkdir()
  file.write_text('1')
  monkeypatch.setattr(environment_module, '__file__', str(file))
  assert environment()['git'] is None  # not in a checkout
  git(tmp_path, 'init')
  assert environment()['git'] is None  # not tracked: someone else's checkout
  git(tmp_path, 'add', '.')
  git(tmp_path, 'commit', '-m', 'one')
  clean = environment()['git']
  assert len(clean['revision']) == 40 and not clean['dirty']
  file.write_text('2')
  assert environment()['git'] == {**clean, 'dirty': True}


def test_without_git(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert environment()['git'] is None
