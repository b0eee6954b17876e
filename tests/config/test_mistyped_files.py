"""What is wrong in a config file, or in its name; see mistyped.py."""

import pathlib

import pytest
from mistyped import POINTS, STAGES, reads_as

ROOT = pathlib.Path(__file__).parents[2]

# A line of Python in a config file of one stage, and of several.
IN_FILE = {
  "raw['trian'] = {}": (
    "config.trian = {}: a stage takes no 'trian'; did you mean 'train'?"
  ),
  "raw['train']['stpes'] = 5": (
    "config.train.stpes = 5: config.train takes no 'stpes'; "
    "did you mean 'steps'?"
  ),
  "raw['network']['wdith'] = 5": (
    "config.network.wdith = 5: mlp takes no 'wdith'; did you mean 'width'?"
  ),
  "raw['network'] = 'mpl'": (
    "config.network = 'mpl' does not exist; did you mean 'mlp'?"
  ),
  "raw['network'] = {'width': 8}": "config.network must have a 'name'; the cho",
  "raw['objective'] = {'name': 'ayf_emd', 'warmup': 3}": (
    "config.objective.warmup = 3: ayf_emd takes no 'warmup'; "
    "did you mean 'warmup_steps'?"
  ),
  "del raw['objective']": 'config.objective is missing; the choices are',
  "del raw['train']": 'config.train is missing; the choices are',
  "raw['train']['epochs'] = 2": (
    'config.train: a length must have exactly one of steps, images, epochs, '
    'got '
    "{'steps': 10, 'epochs': 2.0}"
  ),
  "raw['train']['batch_size'] = '8'": (
    "config.train.batch_size = '8' (str) must be int"
  ),
  "raw['train'] = [5]": 'config.train = [5] (list) must be a dict',
  "raw['train']['batch_size'] = True": (
    'config.train.batch_size = True (bool) must be int'
  ),
  "raw['network']['dropout'] = 1.5": (
    'config.network.dropout = 1.5 must lie in [0, 1)'
  ),
  "raw['frozen'] = {'teacher': 5}": (
    "config.frozen.teacher: 5 must be 'stage:NAME'"
  ),
  "raw['stages'] = {}": 'config.stages = {} must have at least one stage',
}
IN_FILE_OF_STAGES = {
  "raw['stages']['flow']['trian'] = 5": (
    "config.stages.flow.trian = 5: config.stages.flow takes no 'trian'; "
    "did you mean 'train'?"
  ),
  "raw['stages']['distil']['frozen'] = {'teacher': 'stage:flw'}": (
    "config.stages.distil.frozen.teacher = 'stage:flw' must be an earlier "
    'stage that trains; '
    "did you mean 'stage:flow'?"
  ),
  "raw['stages']['flow']['init_from'] = 'stage:distil'": (
    "config.stages: the references of ['flow', 'distil'] must not form a cycle"
  ),
  "raw['stages']['flow']['init_from'] = 'stage:flow'": (
    "config.stages: the references of ['flow', 'distil'] must not form a cycle"
  ),
  "raw['objective'] = 'ayf_lmd'": (
    "config.objective has no effect: every stage has its own 'objective'"
  ),
  "raw['stages']['flow']['frozen'] = {'teacher': 'other'}": (
    'config.stages.flow.frozen.teacher: other must be the folder of a run'
  ),
  "raw['stages']['samples'] = raw['stages'].pop('distil')": (
    "config.stages has 'samples': the name of a stage must consist of"
  ),
  "raw['stages']['a b'] = raw['stages'].pop('distil')": (
    "config.stages has 'a b': the name of a stage must consist of"
  ),
  "raw['stages']['flow'] = 5": ('config.stages.flow = 5 (int) must be a dict'),
}


@pytest.mark.parametrize('line', IN_FILE)
def test_what_is_wrong_in_a_file(type_in, write_config, line):
  path = write_config(POINTS, line)
  assert type_in(f'--config={path}', '--workdir=W').startswith(IN_FILE[line])


@pytest.mark.parametrize('line', IN_FILE_OF_STAGES)
def test_what_is_wrong_in_a_file_of_stages(type_in, write_config, line):
  path = write_config(STAGES, line)
  message = type_in(f'--config={path}', '--workdir=W')
  assert message.startswith(IN_FILE_OF_STAGES[line])


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ("raw['trian']['steps'] = 5", "line 8: KeyError: 'trian'"),
    ('ConfigDict(raw).trian.steps = 5', 'line 8: AttributeError: '),
    ('raw = = 5', 'line 8: SyntaxError: invalid syntax'),
    ('import flowdistil', 'line 8: ModuleNotFoundError: '),
    ('return None', 'get_config returned None; it must return a ConfigDict'),
  ],
)
def test_python_that_is_wrong_in_a_file(type_in, write_config, line, expected):
  path = write_config(POINTS, line)
  message = type_in(f'--config={path}', '--workdir=W')
  assert message.removeprefix(f'{path}')[2:].startswith(expected)


def test_a_file_without_get_config(type_in, tmp_path):
  path = tmp_path / 'experiment.py'
  path.write_text('config = 5\n')
  message = type_in(f'--config={path}', '--workdir=W')
  assert message.startswith(f'{path}: AttributeError: ')
  assert 'get_config' in message


@pytest.mark.parametrize('scheme', ['https', 'http', 'file', 'gs', 'FTP'])
def test_a_config_from_an_address_is_refused(type_in, scheme):
  address = f'{scheme}://example.org/quickstart.py'
  message = type_in(f'--config={address}', '--workdir=W')
  assert message.startswith(
    f'--config={address} must be a local file: a config is code'
  )


def test_a_file_that_does_not_exist(type_in, write_config, monkeypatch):
  path = write_config(POINTS, name='points.py')
  for typed in (path.with_name('ponits.py'), path.with_name('points')):
    message = type_in(f'--config={typed}', '--workdir=W')
    expected = f'there is no file {typed}; did you mean {str(path)!r}?'
    assert reads_as(message, f'--config={typed}: {expected}')
  monkeypatch.chdir(ROOT)
  message = type_in('--config=quickstart.py', '--workdir=W')
  assert reads_as(
    message,
    '--config=quickstart.py: there is no file quickstart.py; '
    "did you mean 'configs/quickstart.py'?",
  )


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('lrage', "config argument 'lrage': did you mean 'large'?"),
    ('runlocl', "config argument 'runlocl': did you mean 'runlocal'?"),
    ('large,tiny', "config argument 'large,tiny': did you mean 'large'?"),
  ],
)
def test_an_argument_that_the_config_does_not_take(
  type_in, points, argument, expected
):
  assert reads_as(type_in(f'{points}:{argument}', '--workdir=W'), expected)


def test_arguments_that_it_takes(type_in, points):
  for argument in ('', ':', ':large', ':runlocal', ':large,runlocal'):
    made, _ = type_in(f'{points}{argument}', '--workdir=W')
    assert made['run']['train']['steps'] == (2 if 'local' in argument else 10)
