"""What a user types, in this process, with jobs that only note it.

Whatever is mistyped, wherever it is typed, ends in one line that teaches. Every
case of the tests of that is something that a user types, and what the line must
begin with; the choices that may follow are left off, for they grow with the
tables. The fixtures are for the `conftest.py` of a folder.
"""

import sys
import textwrap

import pytest
from absl import app, logging
from absl.testing import flagsaver

from flowdistill import main
from flowdistill.jobs import JOBS

FILE = """
from ml_collections import ConfigDict
from flowdistill.config import choose

def get_config(arg=''):
  choose(arg, {'': None, 'large': None})
  raw = RAW
  CHANGE
  return ConfigDict(raw, sort_keys=False)
"""
POINTS = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 8, 'depth': 1},
  'objective': 'rectified_flow',
  'train': {'batch_size': 8, 'steps': 10},
  'ema': {'main': {'half_life': 5}},
  'evaluators': {
    'energy': {'name': 'energy', 'sweep': {'student': [['euler', 1]]}},
  },
}
IMAGES = {
  'dataset': 'digits',
  'network': {'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2},
  'objective': 'rectified_flow',
  'train': {'batch_size': 8, 'steps': 10},
  'evaluation': {'features': 'digits'},
  'evaluators': {
    'few_step': {'name': 'few_step', 'sweep': {'student': [['euler', 1]]}},
  },
}
STAGES = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 8, 'depth': 1},
  'train': {'batch_size': 8},
  'ema': {'main': {'half_life': 5}},
  'stages': {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 10}},
    'distil': {
      'init_from': 'stage:flow',
      'frozen': {'teacher': 'stage:flow'},
      'objective': 'ayf_emd',
      'train': {'steps': 10},
      'evaluators': {'energy': 'energy', 'pictures': 'pictures'},
    },
  },
}

app.define_help_flags()  # once: flagsaver forgets what is defined inside it


@pytest.fixture(scope='module')
def write_config(tmp_path_factory):
  """Writes a config with a line of Python that changes it."""
  folder = tmp_path_factory.mktemp('configs')

  def write(raw, change='', name='experiment.py'):
    text = FILE.replace('RAW', repr(raw))
    lines = textwrap.indent(textwrap.dedent(change).strip(), '  ').strip()
    (folder / name).write_text(text.replace('CHANGE', lines))
    return folder / name

  return write


@pytest.fixture
def type_in(monkeypatch, capsys, tmp_path):
  """Types a command; returns the line that it ends in, or the job it reached.

  `W` in an argument stands for a workdir that nobody may touch.
  """
  reached = []
  workdir = tmp_path / 'workdir'
  verbosity = logging.get_verbosity()

  def reach(blueprints, options):
    reached.append((blueprints.specs, options))

  def without_absl(main, argv, flags_parser):
    flags_parser(argv)
    main(argv)

  for job in JOBS.values():
    monkeypatch.setattr(job, 'run', reach)
  monkeypatch.setattr(app, 'run', without_absl)

  def type_words(*arguments):
    reached.clear()
    arguments = [a.replace('W', str(workdir), 1) for a in arguments]
    monkeypatch.setattr(sys, 'argv', ['flowdistill', *arguments])
    with flagsaver.flagsaver():
      try:
        main.start()
        code = 0
      except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert not workdir.exists()
    if reached:
      assert (code, printed.err) == (0, '')
      return reached[0]
    assert code == 2
    assert printed.err.startswith('error: ')
    assert printed.err.count('\n') == 1
    return printed.err.removeprefix('error: ').strip()

  yield type_words
  logging.set_verbosity(verbosity)


def reads_as(message, expected):
  """Whether a message is the expected one, up to a list of choices."""
  rest = message.removeprefix(expected)
  return message.startswith(expected) and (
    not rest or 'he choices are' in rest or 'there are none' in rest
  )


@pytest.fixture(scope='module')
def points(write_config):
  return f'--config={write_config(POINTS, name="points.py")}'


@pytest.fixture(scope='module')
def images(write_config):
  return f'--config={write_config(IMAGES, name="images.py")}'


@pytest.fixture(scope='module')
def stages(write_config):
  return f'--config={write_config(STAGES, name="stages.py")}'
