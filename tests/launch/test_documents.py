"""The Dockerfiles and the README agree with the repository."""

import pathlib
import re
import runpy
import shlex

import pytest
import setuptools

ROOT = pathlib.Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / 'launch/docker').glob('*.Dockerfile'))
README = (ROOT / 'launch/README.md').read_text('utf-8')


@pytest.fixture
def extras(monkeypatch):
  given = {}
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(
    setuptools, 'setup', lambda **kwargs: given.update(kwargs)
  )
  runpy.run_path('setup.py')
  return given['extras_require']


def instructions(path):
  lines = [x for x in path.read_text().splitlines() if x[:1] not in ('#', '')]
  return [line.partition(' ')[::2] for line in lines]


@pytest.mark.parametrize('path', DOCKERFILES, ids=lambda p: p.stem)
def test_a_dockerfile_installs_its_extra(path, extras):
  steps = instructions(path)
  assert [name for name, _ in steps] == [
    *('FROM', 'WORKDIR', 'COPY', 'COPY', 'RUN', 'COPY')
  ]
  (install,) = [text for name, text in steps if name == 'RUN']
  assert shlex.split(install)[-1] == f'.[{path.stem}]'
  assert path.stem in extras
  copied = set()
  for name, text in steps:
    if name == 'COPY':
      *sources, _ = text.split()
      copied |= set(sources)
  assert all((ROOT / source).exists() for source in copied)
  # What setup.py reads, and what a config needs.
  assert {'setup.py', 'README.md', 'LICENSE', 'flowdistill'} <= copied
  assert 'configs' in copied


def test_there_is_a_dockerfile_for_cuda_and_one_for_tpu():
  assert [path.stem for path in DOCKERFILES] == ['cuda', 'tpu']


def commands():
  text = README.replace('\\\n', ' ')
  blocks = re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
  lines = '\n'.join(blocks).splitlines()
  return [x for x in lines if x.startswith('launch/')]


@pytest.mark.parametrize('line', commands())
def test_every_command_of_the_readme_is_accepted(line, machine):
  script, *words = shlex.split(line, comments=True)
  at = words.index('--') if '--' in words else len(words)
  words.insert(at, '--dry_run')
  done = machine.run(script.removeprefix('launch/'), *words)
  assert (done.returncode, done.stderr) == (0, '')
  assert machine.calls == []


def test_the_readme_names_every_script():
  for path in (ROOT / 'launch').rglob('*'):
    if path.is_file() and path.suffix in ('.sh', '.sbatch', '.Dockerfile'):
      assert path.name in README, path
  named = re.findall(r'configs/\w+\.py', README)
  assert named and all((ROOT / name).exists() for name in named)
