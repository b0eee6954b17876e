"""~ and ~USER: one function, and one line where they name no home folder."""

import pathlib
import re

import pytest

import flowdistill
from flowdistill.build.foreign import read_weights
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.array_files import Names
from flowdistill.datasets.listing import open_files
from flowdistill.datasets.prepared import open_prepared
from flowdistill.datasets.split import read_lines
from flowdistill.files.paths import expand
from flowdistill.jobs import JOBS
from flowdistill.stages.job_options import parse_options, path_of
from flowdistill.workdir.folders import source_folder

NOBODY = '~nosuchuser/x'
WHY = r"must be a path without ~nosuchuser: there is no user 'nosuchuser'"
PACKAGE = pathlib.Path(flowdistill.__file__).parent


def test_home_folders(monkeypatch):
  monkeypatch.setenv('HOME', '/ours')
  assert expand('~/a', 'a') == pathlib.Path('/ours/a')
  assert expand('~', 'a') == pathlib.Path('/ours')
  for path in ('a/~b', '/~nosuchuser', ''):
    assert expand(path, 'a') == pathlib.Path(path)


def test_an_unknown_home_is_said(monkeypatch):
  with pytest.raises(ValueError, match=f"^path = '{NOBODY}' {WHY}"):
    expand(NOBODY, f'path = {NOBODY!r}')

  def nowhere(path):
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(pathlib.Path, 'expanduser', nowhere)
  with pytest.raises(ValueError, match='without ~: .*unknown; set HOME$'):
    expand('~/a', 'a')


GIVEN = {
  'path': lambda: open_files(NOBODY),
  'data_dir': lambda: open_prepared('mnist', NOBODY),
  'held_out': lambda: read_lines(NOBODY),
  'weights': lambda: read_weights('perceptual', NOBODY),
  'arrays': lambda: Names(f'{NOBODY}.npz', 'x0', None, True).stamps(),
}


@pytest.mark.parametrize('what', GIVEN)
def test_a_config_that_names_it_is_wrong(what):
  with pytest.raises(ValueError, match=WHY):
    GIVEN[what]()


TYPED = {
  'workdir': lambda: path_of('workdir', NOBODY),
  'run': lambda: flowdistill.load(NOBODY),
  'source': lambda: source_folder(NOBODY, pathlib.Path()),
  'to': lambda: options('convert', to=f'{NOBODY}.npz'),
  'from': lambda: run('convert', to='none', **{'from': NOBODY}),
  'cond': lambda: options('generate', cond=NOBODY).given,
  'json': lambda: run('plan', json=NOBODY),
}


@pytest.mark.parametrize('what', TYPED)
def test_a_command_that_names_it_is_wrong(what):
  with pytest.raises(ConfigError, match=WHY):
    TYPED[what]()


def options(job, **given):
  return parse_options(JOBS, job, [*given.items()])


def run(job, **given):
  return JOBS[job].run(Stub(), options(job, **given))


class Stub:
  """What the jobs read of a run before they look at their paths."""

  trained = ('flow',)


def test_no_other_function_looks_for_a_home():
  found = [
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob('*.py')
    if re.search(r'expanduser|Path\.home\(', path.read_text('utf-8'))
  ]
  assert found == ['files/paths.py']
