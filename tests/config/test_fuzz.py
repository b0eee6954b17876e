"""Whatever is typed or written, the outcome is a spec or an error of ours.

The cases are drawn from a fixed seed, and each has a time limit. A short form
always runs; the slow one has more cases, and builds what a config describes.
"""

import contextlib
import copy
import io
import itertools
import json
import pathlib
import random
import re
import signal
import sys
import types
import zipfile

import numpy as np
import pytest

from flowdistill.build.given import check_conditions
from flowdistill.build.tables import bind_stage
from flowdistill.config.bind import ConfigError
from flowdistill.config.overrides import parse_override
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.jobs import JOBS, generate
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import parse_options, types_of
from flowdistill.stages.kinds import check_stages, load_stages
from flowdistill.training.json_files import jsonable

CONFIGS = sorted(
  (pathlib.Path(__file__).parents[2] / 'configs').glob('**/*.py')
)
SECONDS = 20  # for one case
LONGEST = 20_000  # characters of an error, which may quote what was typed
OURS = re.compile(
  'must|takes no|ha(?:s|ve) no|does not exist|is missing|there is no|no such '
  '|Error: |config argument |is a value without keys|knows examples|do not fit'
  '|is empty|he choices are|cannot|has the role|needs|asks for|did you mean'
  '|it is an option of'
)
RAW = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 8, 'depth': 1},
  'optim': {'schedule': {'name': 'cosine', 'warmup': {'epochs': 1}}},
  'train': {'batch_size': 8},
  'ema': {'main': {'half_life': 5}},
  'stages': {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 10}},
    'pairs': {'job': 'pairs', 'teacher': 'stage:flow', 'count': 9},
    'distil': {
      'init_from': 'stage:flow',
      'frozen': {'teacher': 'stage:flow'},
      'objective': {'name': 'ayf_emd', 'times': 'interval'},
      'train': {'steps': 10},
      'evaluators': {
        'energy': {'name': 'energy', 'sweep': {'student': [['euler', 1]]}}
      },
    },
  },
}
TYPED = [
  *('', ' ', '0', '-0', '-1', '1', '7', '1.5', '1_000', '0x10', '007', '1e5'),
  *('1e400', '-1e400', 'nan', 'inf', '٣', '３', '1+2j', '10^23', '10**6'),
  *('true', 'FALSE', 'yes', 'none', 'None', '...', '__import__("os")', '$X'),
  *('[]', '{}', '()', '[1, "a"]', '{"a": 1}', "{'name': 'mlp'}", '{[]: 1}'),
  *('{1: 2}', "{'': 1}", "{'steps': 1, 'epochs': 2}", 'a,b', '1,2', "'"),
  *('stage:flow', 'stage:', 'stage:distil', '/none/such', '~', '~none', '%s'),
  *('mlp', 'uniform', 'euler', 'ayf_emd', 'adamw', 'é', '\ud800', '\x7f', '\n'),
  *(str(10**23), str(2**31), str(2**32), str(2**63), '9' * 5000, '[' * 999),
  *('0x' + 'f' * 5000, '-' * 999 + '1', '(' * 99 + ')' * 99, 'b"x"', '"\\d"'),
]
VALUES = [
  *(None, True, False, 0, -1, 7, 2**32, 2**63, 10**23, 16**5000, 1.5, -0.0),
  *(float('nan'), float('inf'), 1j, '', 'a', 'stage:flow', b'x', '\ud800'),
  *((), [], {}, [1], [None], {'a': 1}, {1: 2}, {'': 1}, {'name': 5}, {1}, ...),
  *({'name': 'mlp'}, {'steps': 3}, {'steps': 1, 'epochs': 2}, len, object()),
  *(np.float32(1), np.int64(3), np.zeros(3), pathlib.Path('x'), {'name': []}),
  *([['euler', 1]], {'student': [['rk45', 2.5]]}, {(1,): 2}, {'a.b': {}}),
]


@contextlib.contextmanager
def limited():
  """Ends a case that takes too long."""

  def stop(*_):
    raise TimeoutError(f'a case took more than {SECONDS} s')

  before = signal.signal(signal.SIGALRM, stop)
  signal.alarm(SECONDS)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(call, *args):
  """The result, or None after an error that is of ours, in one short text."""
  with limited():
    try:
      return call(*args)
    except ConfigError as error:
      text = str(error)
      assert 10 < len(text) < LONGEST
      assert OURS.search(text), text
      return None


def paths_of(spec, path=()):
  """The paths of all keys below a spec."""
  if isinstance(spec, dict):
    for key, value in spec.items():
      yield (*path, key)
      yield from paths_of(value, (*path, key))


def mistyped(rng, text):
  """Some text with a few other characters."""
  letters = list(text)
  for _ in range(rng.randint(1, 3)):
    place = rng.randint(0, len(letters))
    letters[place : place + rng.randint(0, 2)] = rng.choice('a.=,:[\'"{ 0é-_/%')
  return ''.join(letters)


@pytest.fixture
def load(tmp_path, monkeypatch):
  """Reads a raw config with overrides, and binds what it says."""
  module = types.ModuleType('fuzzed')
  monkeypatch.setitem(sys.modules, 'fuzzed', module)
  path = tmp_path / 'fuzzed.py'
  path.write_text(
    'import fuzzed\n\ndef get_config(arg):\n  return fuzzed.RAW\n'
  )

  def read(raw, *typed):
    module.RAW = raw
    overrides = [parse_override(f'config.{k}', v) for k, v in typed]
    stages = load_stages(str(path), overrides)
    for name, spec in stages.items():
      json.dumps(jsonable(spec), allow_nan=False)
      bind_stage(spec, f'stages.{name}')
    return stages

  return read


def built(load, tmp_path, *args):
  """As `load`, with all that is checked before a device is used."""
  stages = load(*args)
  check_stages(Blueprints(stages, tmp_path / 'W', recorded=False))
  return stages


COUNTS = [100, pytest.param(5_000, marks=pytest.mark.slow)]
BUILT = [10, pytest.param(400, marks=pytest.mark.slow)]


def overrides(load, seed):
  """Random overrides: most keys exist, and most values are wrong."""
  rng = random.Random(seed)
  whole = load(RAW)
  shared = [p for spec in whole.values() for p in paths_of(spec)]
  named = [('stages', *path) for path in paths_of(whole)]
  while True:
    typed = []
    for _ in range(rng.choice([1, 1, 2, 3])):
      key = '.'.join(rng.choice([*shared, *named]))
      value = rng.choice(TYPED)
      if rng.random() < 0.2:
        key = mistyped(rng, key)
      if rng.random() < 0.2:
        value = mistyped(rng, value[:20])
      typed.append((key, value))
    yield typed


def raws(seed):
  """Random configs: some entries are replaced, removed or added."""
  rng = random.Random(seed)
  while True:
    raw = copy.deepcopy(RAW)
    for _ in range(rng.choice([1, 1, 2, 3])):
      *above, key = rng.choice([*paths_of(raw)] or [('a',)])
      inner = raw
      for each in above:
        inner = inner[each]
      change = rng.random()
      if change < 0.6:
        inner[key] = copy.deepcopy(rng.choice(VALUES))
      elif change < 0.8:
        inner.pop(key, None)
      else:
        name = rng.choice([mistyped(rng, str(key)), 5, None, ''])
        value = rng.choice([*VALUES, inner.get(key)])
        inner[name] = copy.deepcopy(value)
    yield raw


@pytest.mark.parametrize('count', COUNTS)
def test_overrides(load, count):
  for typed in itertools.islice(overrides(load, 0), count):
    outcome(load, RAW, *typed)


@pytest.mark.parametrize('count', COUNTS)
def test_configs(load, count):
  for raw in itertools.islice(raws(1), count):
    outcome(load, raw)


@pytest.mark.parametrize('count', BUILT)
def test_what_can_be_read_can_be_checked(load, tmp_path, count):
  for typed in itertools.islice(overrides(load, 2), count):
    outcome(built, load, tmp_path, RAW, *typed)
  for raw in itertools.islice(raws(3), count):
    outcome(built, load, tmp_path, raw)


def arguments(seed):
  """Random arguments of random configs, a few of them right."""
  rng = random.Random(seed)
  words = ['runlocal', 'large', 'by_class', 'folder=x', 'size=8', 'size=', '=']
  words += ['by_class=false', 'digits', 'cifar10', 'size=٣', '', '..', ':', 'é']
  while True:
    picked = rng.choices([*words, *TYPED], k=rng.randint(0, 3))
    if rng.random() < 0.3:
      picked.append(mistyped(rng, rng.choice(words)))
    yield f'{rng.choice(CONFIGS)}:{",".join(picked)}'


@pytest.mark.parametrize(
  'count', [60, pytest.param(3000, marks=pytest.mark.slow)]
)
def test_arguments_of_the_configs(count):
  for source in itertools.islice(arguments(4), count):
    outcome(load_stages, source)


@pytest.mark.filterwarnings('ignore:invalid escape sequence')
@pytest.mark.parametrize('count', COUNTS)
def test_the_bytes_of_a_config(tmp_path, count):
  """Cut, or with some bytes changed; a comment takes most of them."""
  rng = random.Random(5)
  text = (
    b'#' + b'.' * 200 + f'\ndef get_config(arg):\n  return {RAW}\n'.encode()
  )
  path = tmp_path / 'fuzzed.py'
  for _ in range(count):
    data = bytearray(text[: rng.choice([len(text), rng.randint(0, len(text))])])
    for _ in range(rng.randint(0, 3)):
      place = rng.randint(0, len(data))
      data[place : place + rng.randint(0, 1)] = rng.choice(MARKS)
    path.write_bytes(data)
    outcome(load_stages, str(path))


MARKS = [b'\xef\xbb\xbf', b'\xff\xfe', b'\0', b'\r', b'\r\n', b'\xe9', b'\x1a']
MARKS += [b'\n', b'# coding: x\n', '\u2028'.encode(), b'\\', b"'", b'\t', b'(']


@pytest.mark.parametrize('count', COUNTS)
def test_options_of_jobs(count):
  rng = random.Random(6)
  for _ in range(count):
    job = rng.choice([*JOBS])
    names = [*types_of(JOBS[job]), 'non', '']
    given = [
      (rng.choice(names), rng.choice([None, *TYPED, 'gamma=0.3', 'a=[', 'a=b']))
      for _ in range(rng.randint(1, 3))
    ]
    outcome(parse_options, JOBS, job, given)


CONDITIONS = DataSpec(
  (2,),
  {
    'label': Condition((), 'int32', 3),
    'text': Condition((2, 3), 'float32', 0.0),
    'mask': Condition((2,), 'bool', False),
  },
)


def files(seed):
  """The bytes of .npz files: of odd arrays, cut, and with bytes changed."""
  rng = random.Random(seed)
  arrays = [
    *(np.float32(1), np.zeros((2, 3)), np.ones(2, bool), np.arange(3)),
    *(np.full((2, 3), np.nan), np.array(['a']), np.zeros((0,)), np.array(1j)),
    *(np.datetime64('2020'), np.zeros(2, [('a', 'i4')]), np.uint64(2**64 - 1)),
  ]
  while True:
    file = io.BytesIO()
    given = {'label': arrays[3], 'text': arrays[1], 'mask': arrays[2]}
    if rng.random() < 0.7:
      given[rng.choice([*given, 'txt', ''])] = rng.choice(arrays)
    np.savez(file, **given)
    if rng.random() < 0.1:
      with zipfile.ZipFile(file, 'a') as archive:
        archive.writestr(rng.choice(['text', 'text.npy', '../x']), b'\x93NUMPY')
    data = bytearray(file.getvalue())
    for _ in range(rng.choice([0, 1, 1, 5])):
      data[rng.randrange(len(data))] = rng.randrange(256)
    yield bytes(data[: rng.choice([len(data), rng.randint(0, len(data))])])


def conditions(path):
  given = generate.Options(cond=str(path)).given
  try:
    return check_conditions(CONDITIONS, 3, given)
  except ValueError as error:  # the job adds the option
    raise ConfigError(f'--cond: {error}') from error


@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize('count', COUNTS)
def test_files_of_conditions(tmp_path, count):
  made = 0
  for data in itertools.islice(files(7), count):
    (tmp_path / 'cond.npz').write_bytes(data)
    made += outcome(conditions, tmp_path / 'cond.npz') is not None
  assert 0 < made < count / 2
