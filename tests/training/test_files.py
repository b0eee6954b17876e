"""JSON files, and the versions of the software."""

import json
import os
import pathlib
import platform
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.training import files
from flowdistill.training.files import environment, jsonable, write_json


def test_json_is_strict_and_indented(tmp_path):
  value = {
    'a': [np.float32(0.5), jnp.int32(3), np.bool_(True)],
    'b': (float('nan'), np.inf, -jnp.inf),
    'c': {1: pathlib.Path('x') / 'y', 'none': None},
  }
  path = tmp_path / 'config.json'
  write_json(path, value)
  assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
    'a': [0.5, 3, True],
    'b': ['nan', 'inf', '-inf'],
    'c': {'1': os.path.join('x', 'y'), 'none': None},
  }
  assert path.read_text().startswith('{\n  "a": [\n    0.5,')


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'results.json'
  write_json(path, [1])
  with pytest.raises(TypeError, match='not JSON serializable'):
    write_json(path, [2, object()])
  assert json.loads(path.read_text()) == [1]
  write_json(path, [3])
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']


def test_environment():
  found = environment()
  assert json.loads(json.dumps(found)) == jsonable(found)
  assert found['python'] == platform.python_version()
  assert found['packages']['jax'] == jax.__version__
  assert set(found['packages']) == set(files.PACKAGES)


def git(folder, *arguments):
  identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.com']
  subprocess.run(
    ['git', *identity, *arguments], cwd=folder, check=True, capture_output=True
  )


def test_git_knows_the_revision_and_whether_it_is_dirty(tmp_path, monkeypatch):
  file = tmp_path / 'package' / 'files.py'
  file.parent.mkdir()
  file.write_text('1')
  monkeypatch.setattr(files, '__file__', str(file))
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
