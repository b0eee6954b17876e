"""Overrides of the command line on a config, as typed by a user."""

import re

import pytest
from config.loaded import ONE, TWO

from flowdistill.config.bind import ConfigError
from flowdistill.config.stage_specs import differences

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
