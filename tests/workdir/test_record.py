"""What a workdir says of its run: read, or refused by name."""

import json
import math
import random
import signal

import pytest

from flowdistill.build.data import DataRecord
from flowdistill.build.tables import resolve_stage
from flowdistill.config.bind import ConfigError
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import load_stages
from flowdistill.training.json_files import jsonable, write_json
from flowdistill.workdir import folders, record
from flowdistill.workdir.results import describe, merged, read_rows

SOURCE = 'configs/toys.py:runlocal'
DATA = DataRecord(DataSpec.labelled((2,), 3), 5)
READERS = (
  record.load_spec,
  record.load_data,
  record.read_record,
  folders.stage_names,
  folders.last_stage,
  folders.job_of,
  Blueprints.of_run,
)


@pytest.fixture(scope='module')
def spec():
  return load_stages(SOURCE)['flow']


def written(folder, text):
  (folder / 'config.json').write_text(text)
  return folder


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{}', "config.json was not written by this package: it has no 'config'"),
    ('[]', 'config.json was not written .* an object, and is a list'),
    ('{"config": 3}', "config.json was not .*'config' must be an object"),
    ('{"stages": 3}', "config.json was not .*'stages' must be a list"),
    ('{"stages": [3]}', 'a stage must be a text, and is an integer'),
    ('{"stages": ["../x"]}', r"a stage '\.\./x', which is no name of a folder"),
    ('{"config": {"job": []}}', r'config.job = \[\] does not exist'),
    ('{"config', 'config.json is cut'),
  ],
)
def test_a_config_that_is_none_is_named(text, message, tmp_path):
  written(tmp_path, text)
  with pytest.raises((ConfigError, DamagedFileError), match=message):
    Blueprints.of_run(tmp_path)


@pytest.mark.parametrize(
  'data',
  [
    *([], {}, {'spec': {}, 'size': 1, 'stream': False}),
    {**DATA.to_json(), 'size': 'many'},
    {**DATA.to_json(), 'spec': {**DATA.spec.to_json(), 'shape': [2.5]}},
    {**DATA.to_json(), 'spec': {**DATA.spec.to_json(), 'cond': [1]}},
  ],
)
def test_data_that_are_none_are_named(data, tmp_path):
  written(tmp_path, json.dumps({'config': {}, 'data': data}))
  with pytest.raises(DamagedFileError, match="config.json has a 'data' that"):
    record.load_data(tmp_path)


def test_references_that_are_none_are_named(tmp_path):
  written(tmp_path, '{"config": {}, "references": [1]}')
  with pytest.raises(DamagedFileError, match="'references' must be an object"):
    record.check_references(tmp_path, {})
  written(tmp_path, '{"config": {}, "references": {"teacher": 5}}')
  with pytest.raises(DamagedFileError, match='the origin of teacher must be a'):
    record.recorded_references(tmp_path)


def test_references_of_an_older_version_are_read(tmp_path):
  assert record.recorded_references(tmp_path) == {}
  written(tmp_path, '{"config": {}, "origins": {"teacher": "stage:flow"}}')
  assert record.recorded_references(tmp_path) == {'teacher': 'stage:flow'}


def test_a_record_comes_back(spec, tmp_path):
  record.write_record(tmp_path, spec, {'a': 'b'}, DATA)
  assert jsonable(record.load_spec(tmp_path)) == jsonable(spec)
  assert record.load_data(tmp_path) == DATA
  record.check_unchanged(spec, tmp_path)
  record.check_references(tmp_path, {'a': 'b'})
  record.write_run_record(tmp_path / 'run', ['a', 'b'])
  with pytest.raises(ConfigError, match=r"holds a run of the stages \['a', 'b"):
    record.check_unchanged(spec, tmp_path / 'run')


@pytest.mark.parametrize(
  ('change', 'allowed'),
  [
    ({'path': 'b'}, True),
    ({'batch_size': 3}, True),
    ({'tile': 512, 'tile_overlap': 64}, True),
    ({'scaling_factor': 1.0}, False),
    ({'name': 'pixels'}, False),
  ],
)
def test_the_weights_of_a_space_may_move(spec, tmp_path, change, allowed):
  """Their SHA-256 is compared with the references, or in a manifest."""
  kl = {'name': 'kl', 'path': 'a'}
  was, now = (
    resolve_stage({**spec, 'space': each})
    for each in (kl, {'name': 'pixels'} if 'name' in change else kl | change)
  )
  record.write_record(tmp_path, was, {}, DATA)
  if allowed:
    record.check_unchanged(now, tmp_path)
    return
  with pytest.raises(ConfigError, match=r'with another config: config\.space'):
    record.check_unchanged(now, tmp_path)


@pytest.mark.parametrize(
  ('section', 'change', 'allowed'),
  [
    ('evaluation', {'every': {'steps': 7}}, True),
    ('evaluation', {'schedules': {'energy': {'steps': 7}}}, True),
    ('evaluation', {'batch_size': 7}, False),
    ('checkpoint', {'every': {'steps': 7}}, True),
    ('checkpoint', {'keep': 7}, False),
  ],
)
def test_how_often_it_is_measured_may_change(
  spec, tmp_path, section, change, allowed
):
  record.write_record(tmp_path, spec, {}, DATA)
  now = resolve_stage({**spec, section: {**spec[section], **change}})
  if allowed:
    record.check_unchanged(now, tmp_path)
    return
  with pytest.raises(ConfigError, match=rf'config: config\.{section}\.'):
    record.check_unchanged(now, tmp_path)


def test_data_are_known_though_options_are_newer_than_the_record(tmp_path):
  """As those of `arrays` are: a run of before does not have their keys."""
  dataset = {'name': 'arrays', 'path': 'gone.npz'}
  given = {**load_stages(SOURCE)['flow'], 'dataset': dataset}
  spec = resolve_stage(given)
  record.write_record(tmp_path, spec, {}, DATA)
  path = tmp_path / 'config.json'
  old = json.loads(path.read_text())
  for key in ('range', 'layout', 'classes', 'x0', 'by_class'):
    del old['config']['dataset'][key]
  path.write_text(json.dumps(old))
  assert record.known_data(spec['dataset'], tmp_path) == DATA
  other = {**spec['dataset'], 'range': (0.0, 1.0)}
  assert record.known_data(other, tmp_path) is None


def places(value, path=()):
  """The paths of all values in a tree of JSON."""
  yield path
  items = enumerate(value) if isinstance(value, list) else ()
  items = value.items() if isinstance(value, dict) else items
  for key, inner in items:
    yield from places(inner, (*path, key))


def reading(read, folder):
  """Why a folder cannot be read, its name if it can."""
  try:
    read(folder)
  except ValueError as error:  # ConfigError is one
    return str(error)
  return str(folder)


VALUES = [None, True, 3, -1, 2.5, 'x', '', [], {}, [1], {'name': 3}, 2**63]


@pytest.mark.parametrize(
  'tries', [40, pytest.param(3000, marks=pytest.mark.slow)]
)
def test_fuzzed_records_are_read_or_refused(tries, spec, tmp_path):
  rng = random.Random(14)
  good = json.dumps(
    jsonable({'config': spec, 'data': DATA.to_json(), 'references': {}})
  )
  signal.alarm(300)
  try:
    for _ in range(tries):
      bad = json.loads(good)
      *outer, key = rng.choice([p for p in places(bad) if p])
      inner = bad
      for step in outer:
        inner = inner[step]
      inner[key] = rng.choice(VALUES)
      if rng.random() < 0.3:
        del inner[key]
      written(tmp_path, json.dumps(bad))
      for read in READERS:
        assert str(tmp_path) in reading(read, tmp_path)
  finally:
    signal.alarm(0)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{}', 'results.json .* must be a list, and is an object'),
    ('[3]', 'results.json .* a row must be an object, and is an integer'),
    ('[{"fid": NaN}]', 'results.json has NaN'),
    ('[{}]', "results.json was not written by .* it has no 'model'"),
    ('[{"model": 3}]', "'model' must be a text, and is an integer"),
    ('[{"model": "a", "fid": "x"}]', 'fid must be a number, and is a text'),
    ('[{"model": "a", "nfe": []}]', 'nfe must be a number, and is a list'),
    ('[{"model": "a", "options": {}}]', "'options' must be a text, and is an"),
  ],
)
def test_rows_that_are_none_are_named(text, message, tmp_path):
  (tmp_path / 'results.json').write_text(text)
  with pytest.raises(DamagedFileError, match=message):
    read_rows(tmp_path / 'results.json')


def test_rows_come_back_with_figures_that_are_not_finite(tmp_path):
  row = {'model': 'a', 'sampler': 'rk45', 'nfe': 9.5, 'adaptive': True}
  row |= {'step': 4, 'options': 'nan', 'fid': math.inf, 'kid': -math.inf}
  write_json(tmp_path / 'results.json', [row, {**row, 'fid': math.nan}])
  first, second = read_rows(tmp_path / 'results.json')
  assert first == row
  assert math.isnan(second['fid'])
  assert 'fid nan' in describe(second) and 'fid inf' in describe(first)


def test_rows_of_two_writers_are_merged():
  first = {'model': 'student', 'sampler': 'few', 'nfe': 1, 'step': 4, 'fid': 3}
  other = {**first, 'step': 2}
  kid = {k: v for k, v in first.items() if k != 'fid'} | {'kid': 1.0}
  assert merged([], [first]) == [first]
  assert merged([first], [{**first, 'fid': 2}]) == [{**first, 'fid': 2}]
  assert merged([first], [kid]) == [first, kid]
  assert merged([first, kid], [other]) == [other, first, kid]
  twice = [first, first]  # by one writer, as two evaluators may
  assert merged([first], twice) == twice
