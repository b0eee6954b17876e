"""Config files and their arguments, down to one resolved dict per stage."""

import pathlib

import pytest
from config.loaded import ONE, TWO

from flowdistill.config.bind import ConfigError
from flowdistill.config.stage_specs import differences, split_stages
from flowdistill.config.tiny import SAMPLES, STEPS
from flowdistill.stages.kinds import KINDS, load_stages

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def test_a_config_without_stages_is_one(load):
  (spec,) = load(ONE).values()
  assert spec['network'] == {
    'name': 'mlp',
    'width': 64,
    'depth': 3,
    'dropout': 0.0,
    'max_frequency': 16.0,
    'dtype': 'float32',
    'attention_form': 'plain',
    'remat': None,
    'scalars': (),
  }
  log = {'every': {'steps': 50}, 'trackers': ('tensorboard',)}
  assert spec['log'] == log
  assert spec['objective']['times'] == {
    'name': 'uniform',
    'low': 0.0,
    'high': 1.0,
  }


def test_stages_share_the_other_keys_and_add_their_own(load):
  stages = load(TWO)
  assert list(stages) == ['flow', 'distil']
  schedules = [spec['optim']['schedule'] for spec in stages.values()]
  assert [s['learning_rate'] for s in schedules] == [0.001, 0.1]
  assert all(s['warmup'] == {'epochs': 1} for s in schedules)
  assert [s['train']['batch_size'] for s in stages.values()] == [32, 32]
  assert [s['train']['steps'] for s in stages.values()] == [10, 20]
  assert [list(s['evaluators']) for s in stages.values()] == [[], ['energy']]


def test_another_name_in_a_stage_drops_the_shared_options():
  shared = {'network': {'name': 'mlp', 'width': 64}}
  raw = {**shared, 'stages': {'a': {}, 'b': {'network': {'name': 'dit'}}}}
  stages = split_stages(raw, KINDS)
  assert stages['a']['network'] == {'name': 'mlp', 'width': 64}
  assert stages['b']['network'] == {'name': 'dit'}


def test_shared_options_of_no_name_go_with_the_name_of_a_stage():
  shared = {'optim': {'schedule': {'warmup': 5}}}
  own = {'optim': {'schedule': {'name': 'constant', 'learning_rate': 0.1}}}
  stages = split_stages({**shared, 'stages': {'a': own, 'b': {}}}, KINDS)
  assert stages['a']['optim']['schedule'] == {
    'name': 'constant',
    'learning_rate': 0.1,
    'warmup': 5,
  }
  assert stages['b'] == shared


def test_another_unit_in_a_stage_drops_the_shared_one():
  shared = {'train': {'steps': 5, 'batch_size': 3}}
  raw = {**shared, 'stages': {'a': {}, 'b': {'train': {'epochs': 2}}}}
  stages = split_stages(raw, KINDS)
  assert stages['a']['train'] == {'steps': 5, 'batch_size': 3}
  assert stages['b']['train'] == {'epochs': 2, 'batch_size': 3}


@pytest.mark.parametrize(
  'wrap',
  ['ConfigDict({}, sort_keys=False)', 'ConfigDict({})', '{}', 'dict({})'],
)
def test_stages_run_as_written_and_after_those_they_refer_to(load, wrap):
  stage = {'objective': 'rectified_flow'}
  stages = {
    'z': stage,
    'late': {**stage, 'init_from': 'stage:a'},
    'm': {**stage, 'init_from': {'source': 'stage:z', 'weights': 'params'}},
    'a': stage,
  }
  raw = {k: v for k, v in ONE.items() if k != 'objective'}
  made = load({**raw, 'stages': stages}, wrap=wrap)
  assert list(made) == ['z', 'm', 'a', 'late']


@pytest.mark.parametrize(
  'wrap', ['ConfigDict({}, sort_keys=False)', 'ConfigDict({})', '{}']
)
def test_names_keep_the_order_that_was_written(load, wrap):
  sweep = {'student': [['euler', 1]], 'ema': [['euler', 2]]}
  evaluators = {
    'z': {'name': 'energy', 'sweep': sweep},
    'a': {'name': 'energy'},
  }
  (spec,) = load({**ONE, 'evaluators': evaluators}, wrap=wrap).values()
  assert list(spec['evaluators']) == ['z', 'a']
  assert list(spec['evaluators']['z']['sweep'].items()) == list(sweep.items())


def test_runlocal_is_the_same_at_toy_size(load):
  made, whole = load(TWO, arg=':runlocal'), load(TWO)
  assert list(made) == list(whole)
  for name, spec in made.items():
    assert spec['network']['width'] < 64
    assert spec['train']['steps'] == STEPS
    assert spec['objective'] == whole[name]['objective']
  assert made['distil']['evaluators']['energy']['samples'] == SAMPLES
  longer = load(TWO, '--config.train.steps=7', arg=':runlocal')
  assert [spec['train']['steps'] for spec in longer.values()] == [7, 7]


@pytest.mark.parametrize(
  'dataset',
  [
    {'name': 'folder', 'path': '/none/such'},
    {'name': 'tfds', 'builder': 'none_such'},
    {'name': 'arrays', 'path': '/none/such.npz'},
    {'name': 'emoji', 'path': '/none/such.ttf', 'background': 'alpha'},
  ],
)
def test_runlocal_has_digits_in_place_of_files(load, dataset):
  given = {**ONE, 'dataset': {**dataset, 'split': 'train'}}
  (spec,) = load(given, arg=':runlocal').values()
  digits = {'name': 'digits', 'size': 8, 'text': None, 'split': 'train'}
  assert spec['dataset'] == digits
  named = '--config.dataset.name=folder', '--config.dataset.path=/mine'
  (spec,) = load(given, *named, arg=':runlocal').values()
  assert spec['dataset']['path'] == '/mine'


def test_a_seed_is_checked_in_evaluators_too(load):
  energy = {'name': 'energy', 'seed': 2**32}
  stages = {'a': {'evaluators': {'energy': energy}}, 'b': {}}
  message = r'^config.stages.a.evaluators.energy.seed = 4294967296 must be an'
  with pytest.raises(ConfigError, match=message):
    load({**ONE, 'stages': stages})


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ("float('nan')", 'drop_cond = nan must be finite'),
    ("float('inf')", 'drop_cond = inf must be finite'),
    ('16**5000', 'drop_cond = an integer of 20001 bits must be an integer in'),
    (
      '[0.1] * 10**4',
      r'drop_cond = \[0.1, .*\.\.\..*\] \(list\) must be float',
    ),
    ('lambda: 1', r'drop_cond = .* must be float'),
  ],
)
def test_a_value_that_no_key_can_have_in_a_file(tmp_path, value, message):
  raw = f'{{**{ONE}, "train": {{"steps": 1, "drop_cond": {value}}}}}'
  path = tmp_path / 'x.py'
  path.write_text(f'def get_config(arg):\n  return {raw}\n')
  with pytest.raises(ConfigError, match=f'config.train.{message}') as raised:
    load_stages(str(path))
  assert len(str(raised.value)) < 700


CODE = f"""# é
def get_config(arg):
  return {ONE}
"""


@pytest.mark.parametrize(
  'data',
  [
    CODE.encode('utf-8-sig'),
    CODE.replace('\n', '\r\n').encode(),
    CODE.replace('\n', '\r').encode(),
    f'# coding: latin-1\n{CODE}'.encode('latin-1'),
    CODE.replace('\n', '\r\n').encode('utf-8-sig').rstrip(),
  ],
)
def test_how_a_file_may_be_encoded(tmp_path, data):
  (tmp_path / 'x.py').write_bytes(data)
  assert load_stages(str(tmp_path / 'x.py'))['run']['train']['steps'] == 10


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (CODE.encode('utf-16'), r'x.py must be a text file in UTF-8, not UTF-16'),
    (
      CODE.encode('utf-16-le'),
      r'x.py must be a text file in UTF-8, not UTF-16',
    ),
    (CODE.encode('utf-32'), r'x.py must be a text file in UTF-8, not UTF-16'),
    (
      CODE.encode('latin-1'),
      r'x.py must be in UTF-8, or name its encoding',
    ),
    (b'# coding: martian\n', 'x.py must be in UTF-8, or .*unknown encoding'),
    (b'\x89PNG\r\n\x1a\n\0', 'x.py must be a text file in UTF-8'),
    (b'', 'AttributeError: .*get_config'),
  ],
)
def test_how_a_file_may_not_be_encoded(tmp_path, data, message):
  (tmp_path / 'x.py').write_bytes(data)
  with pytest.raises(ConfigError, match=message):
    load_stages(str(tmp_path / 'x.py'))


@pytest.mark.parametrize(
  'body',
  [
    'assert False, "no"',
    'class Own(Exception): pass\n  raise Own',
    'import sys; sys.exit(3)',
    'get_config(arg)',
    'raise NotImplementedError',
    'raise StopIteration',
    'open("/none/such")',
    'return {}["a"]',
    'return 5',
    'return [1]',
    'yield 1',
    'raw = {}; raw["a"] = raw; return raw',
    'from ml_collections import ConfigDict; return ConfigDict({1: 2, (3,): 4})',
  ],
)
def test_whatever_a_file_raises_is_a_mistake_in_it(tmp_path, body):
  path = tmp_path / 'x.py'
  path.write_text(f'def get_config(arg):\n  {body}\n')
  with pytest.raises(ConfigError, match=f'^{path}(, line [23])?: '):
    load_stages(str(path))


def test_paths_that_are_no_config(tmp_path):
  (tmp_path / 'folder.py').mkdir()
  (tmp_path / 'config.json').write_text('{}')
  for name in ('folder.py', 'none.py', 'folder.py/x.py', ''):
    with pytest.raises(ConfigError, match='there is no file'):
      load_stages(str(tmp_path / name))
  with pytest.raises(ConfigError, match='config.json must be a Python file'):
    load_stages(str(tmp_path / 'config.json'))


def test_the_argument_of_a_config_for_pictures():
  config = f'{CONFIGS}/images/folder.py'

  def by_class(arg):
    return load_stages(f'{config}:{arg}')['run']['dataset']['by_class']

  for arg in ('', 'by_class=false', 'by_class=False', 'folder=a=b'):
    assert by_class(arg) is False
  for arg in ('by_class', 'by_class=true', 'folder=2024,by_class='):
    assert by_class(arg) is True
  for arg in (
    'by_class=no',
    'by_class=0',
    'size=٣',
    'size=',
    'size=-1',
    'size',
  ):
    with pytest.raises(ConfigError, match='^config argument .* must be'):
      by_class(arg)
  for arg in ('folder', 'folder=', 'size=3,size=4', 'by_clas', '=', 'a=b'):
    with pytest.raises(ConfigError, match='^config argument '):
      by_class(arg)


def test_differences():
  old = {'a': 1, 'b': {'c': [1, (2, 3)], 'd': None}, 'e': {'f': 1}}
  assert differences(old, old) == []
  assert differences(old, {**old, 'b': {'c': ((1, [2, 3])), 'd': None}}) == []
  new = {'a': 1.5, 'b': {'c': [1], 'd': 0}, 'g': 2}
  assert differences(old, new) == [
    'config.a was 1, is 1.5',
    'config.b.c was [1, (2, 3)], is [1]',
    'config.b.d was None, is 0',
    "config.e was {'f': 1}, is None",
    'config.g was None, is 2',
  ]
