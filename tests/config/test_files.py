"""Files, arguments and overrides, down to one resolved dict per stage."""

import pathlib
import re
import textwrap

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.config.files import differences, split_stages
from flowdistill.config.overrides import parse_override
from flowdistill.config.tiny import SAMPLES, STEPS
from flowdistill.main import split_arguments
from flowdistill.stages.kinds import KINDS, load_stages

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
ONE = {
  'dataset': 'moons',
  'network': {'name': 'mlp', 'width': 64},
  'objective': 'rectified_flow',
  'train': {'steps': 10},
}
TWO = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 64},
  'optim': {'schedule': {'name': 'cosine', 'warmup': {'epochs': 1}}},
  'train': {'batch_size': 32},
  'stages': {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 10}},
    'distil': {
      'frozen': {'teacher': 'stage:flow'},
      'objective': {'name': 'ayf_emd', 'max_r': 0.5},
      'train': {'steps': 20},
      'optim': {'schedule': {'learning_rate': 0.1}},
      'evaluators': {'energy': 'energy'},
    },
  },
}


@pytest.fixture
def load(tmp_path):
  """Stages of a config with what is typed after it, as `main` reads them."""

  def read(raw, *typed, arg='', wrap='ConfigDict({}, sort_keys=False)'):
    made = wrap.format(repr(raw))
    text = f"""
    from ml_collections import ConfigDict

    def get_config(arg=''):
      return {made}
    """
    (tmp_path / 'experiment.py').write_text(textwrap.dedent(text))
    _, rest, _ = split_arguments(typed)
    overrides = [parse_override(name, value) for name, value in rest]
    return load_stages(f'{tmp_path / "experiment.py"}{arg}', overrides)

  return read


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


# Each with the spelling, where to look, and what is to be there.
SET = [
  ('--config.train.steps=7', 'flow.train.steps', 7),
  ('--config.train.steps=7', 'distil.train.steps', 7),
  ('--config.train.steps 7', 'distil.train.steps', 7),
  ('-config.train.steps 7', 'distil.train.steps', 7),
  ('--config.stages.distil.train.steps=7', 'flow.train.steps', 10),
  ('--config.stages.distil.train.steps=7', 'distil.train.steps', 7),
  ('--config.train.epochs=2', 'flow.train.epochs', 2.0),
  ('--config.train.epochs=2', 'flow.train.steps', None),
  ('--config.train.epochs=2 --config.train.steps=3', 'flow.train.epochs', None),
  (
    '--config.optim.schedule.warmup.images=9',
    'flow.optim.schedule.warmup',
    {'images': 9},
  ),
  (
    '--config.optim.schedule.warmup=9',
    'flow.optim.schedule.warmup',
    {'steps': 9},
  ),
  ('--config.log.every.epochs=1', 'flow.log.every', {'epochs': 1}),
  (
    '--config.evaluation.every.epochs=0.5',
    'distil.evaluation.every',
    {'epochs': 0.5},
  ),
  ('--config.objective.max_r=1', 'distil.objective.max_r', 1.0),
  ('--config.mesh.data -1', 'flow.mesh.data', -1),
  ('--config.seed=4294967295', 'flow.seed', 2**32 - 1),
  ('--config.seed=0x10', 'flow.seed', 16),
  ('--config.seed=1_000', 'flow.seed', 1000),
  ('--config.seed=-0', 'flow.seed', 0),
  ('--config.train.flip=TRUE', 'flow.train.flip', True),
  ('--config.train.flip=false', 'flow.train.flip', False),
  (
    '--config.network.scalars=["guidance"]',
    'flow.network.scalars',
    ('guidance',),
  ),
  ('--config.optim.clip -.5', 'flow.optim.clip', -0.5),
  ('--config.optim.clip=none', 'flow.optim.clip', None),
  (
    '--config.optim.schedule.learning_rate 1e-4',
    'flow.optim.schedule.learning_rate',
    1e-4,
  ),
  ('--config.dataset.split=train', 'flow.dataset.split', 'train'),
  ('--config.resume=runs/a=b', 'flow.resume', 'runs/a=b'),
  ('--config.resume="7"', 'flow.resume', '7'),
  (
    '--config.frozen={}',
    'distil.frozen',
    {},
  ),
  (
    '--config.stages.distil.frozen.teacher=runs/a',
    'distil.frozen.teacher',
    {
      'source': 'runs/a',
      'weights': 'ema',
      'matching': False,
      'dtype': 'float32',
      'offload': False,
      'role': 'student',
    },
  ),
  (
    '--config.stages.distil.frozen.teacher.weights=params',
    'distil.frozen.teacher',
    {
      'source': 'stage:flow',
      'weights': 'params',
      'matching': False,
      'dtype': 'float32',
      'offload': False,
      'role': 'student',
    },
  ),
  (
    '--config.stages.distil.frozen.weak=runs/a',
    'distil.frozen.weak.source',
    'runs/a',
  ),
  ('--config.ema.main.half_life.images=5', 'flow.ema.main.ramp', 0.05),
  (
    '--config.evaluators.late.name=energy',
    'flow.evaluators.late.samples',
    2000,
  ),
  (
    "--config.evaluators.energy.sweep={'student':[['heun',3]]}",
    'distil.evaluators.energy.sweep',
    {'student': [['heun', 3]]},
  ),
  (
    "--config.evaluators.energy.sweep.student=[('heun',3)]",
    'distil.evaluators.energy.sweep.student',
    [('heun', 3)],
  ),
  (
    '--config.evaluation.features.name=digits',
    'distil.evaluation.features.name',
    'digits',
  ),
]


@pytest.mark.parametrize(('typed', 'path', 'expected'), SET)
def test_an_override(load, typed, path, expected):
  found = load(TWO, *typed.split())
  for key in path.split('.'):
    found = found[key]
  assert found == expected
  assert type(found) is type(expected)


# Where a string is wanted, what looks like something else is one.
TEXT = {
  '2024': '2024',
  '007': '007',
  '1e5': '1e5',
  '1_000': '1_000',
  'true': 'true',
  'None': 'None',
  '[1]': '[1]',
  '{}': '{}',
  '(a,b)': '(a,b)',
  'a,b': 'a,b',
  "'2024'": '2024',
  '"none"': 'none',
  '': '',
  "''": '',
  '-': '-',
  '~/x y': '~/x y',
  'b"x"': 'b"x"',
  "it's": "it's",
  '/tmp/\\d': '/tmp/\\d',
}


@pytest.mark.parametrize('typed', TEXT)
def test_a_string_is_what_was_typed(load, typed):
  folder = {**ONE, 'dataset': {'name': 'folder', 'path': 'x'}}
  found = load(folder, f'--config.dataset.path={typed}')['run']['dataset']
  assert found['path'] == TEXT[typed]
  found = load(folder, f'--config.dataset.held_out={typed}')['run']['dataset']
  assert found['held_out'] == (None if typed == 'None' else TEXT[typed])
  if typed not in ('', "''", 'None', '{}'):
    found = load(ONE, f'--config.init_from={typed}')['run']['init_from']
    assert found['source'] == TEXT[typed]


def test_none_where_a_string_is_wanted_and_quotes_around_it(load):
  for typed in ('none', 'None', 'NONE'):
    assert load(ONE, f'--config.resume={typed}')['run']['resume'] is None
  assert load(ONE, "--config.resume='none'")['run']['resume'] == 'none'
  for name in ('7', 'true', '[1]'):
    message = re.escape(f"dataset.name = '{name}' does not exist")
    with pytest.raises(ConfigError, match=message):
      load(ONE, f'--config.dataset.name={name}')


DEEP = '[' * 5000


@pytest.mark.parametrize(
  ('typed', 'message'),
  [
    (
      'seed=4294967296',
      r'seed = 4294967296 must be an integer in \[0, 2\*\*32',
    ),
    ('seed=-1', 'seed = -1 must be an integer in'),
    (f'seed={2**63}', r'seed = \d+ must be an integer in \[-2\*\*63, 2\*\*63'),
    (f'seed={10**23}', r'seed = \d+ must be an integer in \[-2\*\*63, 2\*\*63'),
    (f'seed={"9" * 5000}', r"seed = '9+\.\.\.9+' \(str\) must be int$"),
    (f'seed=0x{"f" * 5000}', r"seed = '0xf+\.\.\.f+' \(str\) must be int$"),
    ('seed=10^23', r"seed = '10\^23' \(str\) must be int"),
    ('seed=10**6', r"seed = '10\*\*6' \(str\) must be int"),
    ('seed=1e3', r'seed = 1000.0 \(float\) must be int'),
    ('seed=٣', r"seed = '٣' \(str\) must be int"),
    ('seed=007', r"seed = '007' \(str\) must be int"),
    ('seed=true', r'seed = True \(bool\) must be int'),
    (f'seed={DEEP}', r"seed = '\[+\.\.\.\[+' \(str\) must be int"),
    ('seed={[]: 1}', r"seed = '\{\[\]: 1\}' \(str\) must be int"),
    ('train.drop_cond=1e400', 'drop_cond = inf must be finite'),
    ('train.drop_cond=nan', r"drop_cond = 'nan' \(str\) must be float"),
    (
      f'train.drop_cond={10**400}',
      r'drop_cond = 10+\.\.\.0+ must be an integer in',
    ),
    ('train.flip=yes', r"flip = 'yes' \(str\) must be bool"),
    ('train.flip=1', r'flip = 1 \(int\) must be bool'),
    ('train.flip=', r"flip = '' \(str\) must be bool"),
    ('network.scalars=[1]', r'scalars\[0\] = 1 \(int\) must be str'),
    ('network.scalars=guidance', r"scalars = 'guidance' \(str\) must be tuple"),
    ('mesh.rules=[["a"]]', r"rules\[0\] = \('a',\) must be a list of 2"),
    ("ema={'': {}}", 'ema = .* must have names that are not empty'),
    (
      "ema={1: {}, '1': {}}",
      'ema = .* must have names that are not empty, each',
    ),
    (
      "ema={'main': {'until': 10**5}}",
      r'\(str\) must be a dict, name -> value',
    ),
  ],
)
def test_a_value_that_no_key_can_have(load, typed, message):
  with pytest.raises(ConfigError, match=f'^config.*{message}') as raised:
    load(ONE, f'--config.{typed}')
  assert len(str(raised.value)) < 700


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


def test_an_override_changes_nothing_else(load):
  before, after = load(TWO), load(TWO, '--config.stages.distil.seed=5')
  assert differences(before, after) == ['config.distil.seed was 0, is 5']


def test_an_override_of_a_name_takes_the_defaults_of_that_entry(load):
  whole = '--config.stages.distil.objective'
  for typed in (f'{whole}.name=ayf_lmd', f'{whole}=ayf_lmd'):
    objective = load(TWO, typed)['distil']['objective']
    assert objective['name'] == 'ayf_lmd'
    assert objective['max_r'] == 0.99
  made = load(TWO, f'{whole}.name=rectified_flow')['distil']['objective']
  assert list(made) == list(load(TWO)['flow']['objective'])


def test_the_options_of_a_new_name_can_be_set_after_it(load):
  key = '--config.optim.optimiser'
  made = load(TWO, f'{key}.name=adamw', f'{key}.weight_decay=0.5')
  assert made['flow']['optim']['optimiser']['weight_decay'] == 0.5
  with pytest.raises(ConfigError, match="has no key 'weight_decay'"):
    load(TWO, f'{key}.weight_decay=0.5', f'{key}.name=adamw')


def test_a_name_that_is_the_same_in_all_stages_is_set_in_all(load):
  made = load(TWO, '--config.optim.schedule.name=constant')
  for spec in made.values():
    assert spec['optim']['schedule'] == {
      'name': 'constant',
      'learning_rate': 0.001,
      'warmup': {'steps': 0},
    }


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
