"""A stage that is trained on, and the later ones that began with it."""

import json
import os

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import JOBS, train
from flowdistill.stages import order
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import parse_options
from flowdistill.workdir.lock import LOCK, locked

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  flow = {'objective': 'rectified_flow'}
  return ConfigDict({
    'dataset': {'name': 'moons', 'size': 64},
    'network': {'name': 'mlp', 'width': 8, 'depth': 1},
    'train': {'steps': 4, 'batch_size': 16},
    'stages': {
      'flow': flow,
      'pairs': {'job': 'pairs', 'teacher': 'stage:flow', 'count': 16},
      'reflow': {
        'objective': {'name': 'rectified_flow', 'coupling': 'paired'},
        'pairs': 'stage:pairs',
      },
      'start': {**flow, 'init_from': 'stage:flow'},
      'further': {**flow, 'init_from': 'stage:start'},
      'distil': {
        'objective': 'ayf_emd', 'frozen': {'teacher': 'stage:flow'},
      },
      'apart': flow,
    },
  }, sort_keys=False)
"""
LATER = ['pairs', 'reflow', 'start', 'further', 'distil']


@pytest.fixture
def config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(CONFIG)
  return path


def blueprints(config, *overrides):
  specs = tiny.stages(config, *overrides)
  return Blueprints(specs, config.parent / 'run', recorded=False)


def finish(stages, *names, step=4):
  """Leaves what a finished stage leaves, without any training."""
  for name in names:
    folder = stages.folder(name)
    if name == 'pairs':
      (folder / 'pairs').mkdir(parents=True)
      manifest = {
        'format': 'flowdistill pairs 2',
        'spec': {'shape': [2], 'cond': {}, 'classes': []},
        'count': 16,
        'shard_size': 16,
        'seed': 0,
        'noise': 'stored',
        'finished': True,
        'teacher': f'stage:flow at step {step}, ema',
      }
      (folder / 'pairs' / 'manifest.json').write_text(json.dumps(manifest))
    else:
      (folder / 'checkpoints' / str(step)).mkdir(parents=True)
    record = {'config': {}, 'data': None, 'references': {}}
    if name == 'distil':
      record['references'] = {'teacher': f'stage:flow at step {step}'}
    (folder / 'config.json').write_text(json.dumps(record))


def outdated(config, *overrides, chosen=None):
  stages = blueprints(config, *overrides)
  return list(order.outdated(stages, chosen or list(stages)))


def test_references_of_all_kinds(config):
  stages = blueprints(
    config, f'stages.apart.init_from={config.parent}/run/distil'
  )
  found = {name: order.references(stages, name) for name in stages}
  assert found == {
    'flow': [],
    'pairs': ['flow'],
    'reflow': ['pairs'],
    'start': ['flow'],
    'further': ['start'],
    'distil': ['flow'],
    'apart': ['distil'],  # a folder of this run
  }


@pytest.mark.parametrize(
  ('overrides', 'expected'),
  [
    ((), []),
    (('stages.flow.train.steps=5',), LATER),
    (('train.steps=5',), LATER),
    (("stages.flow.train={'epochs': 2, 'batch_size': 16}",), LATER),
    (('stages.flow.train.images=96',), LATER),
    (('stages.start.train.steps=5',), ['further']),
    (('stages.reflow.train.steps=5', 'stages.distil.train.steps=5'), []),
    (('stages.apart.train.steps=9',), []),
  ],
)
def test_what_began_with_a_stage_that_grows(config, overrides, expected):
  stages = blueprints(config)
  finish(stages, *stages)
  assert outdated(config, *overrides) == expected


def test_what_has_not_begun_stays(config):
  stages = blueprints(config)
  finish(stages, 'flow', 'further')
  grown = 'stages.flow.train.steps=5'
  assert outdated(config, grown) == ['further']  # through one that is not there
  assert outdated(config, grown, chosen=['flow']) == ['further']
  assert outdated(config, grown, chosen=['further']) == []


def test_what_began_while_a_stage_was_not_finished(config):
  stages = blueprints(config)
  finish(stages, 'flow', 'distil', step=2)
  assert outdated(config) == ['distil']


def test_a_run_that_an_older_version_left_half_grown(config):
  """It trained the first stage on, and was refused at the second."""
  stages = blueprints(config)
  finish(stages, *stages)
  (stages.folder('flow') / 'checkpoints' / '7').mkdir()
  grown = 'stages.flow.train.steps=7'
  assert outdated(config, grown) == ['pairs', 'reflow', 'distil']
  with pytest.raises(ConfigError, match=r'pairs began with .* flow is at st'):
    order.refuse(order.outdated(blueprints(config, grown), list(stages)))


def test_the_refusal_names_the_stages_and_the_option(config):
  stages = blueprints(config)
  finish(stages, *stages)
  found = order.outdated(blueprints(config, 'train.steps=5'), list(stages))
  with pytest.raises(ConfigError) as error:
    order.refuse(found)
  for text in (
    'config.stages.flow.train: flow would be trained on from step 4 to 5',
    f'{", ".join(LATER)} would have to start again. Nothing was changed',
    '--set_aside (--job=train), which renames the folder of each of them, '
    'pairs to pairs.old-1',
  ):
    assert text in str(error.value)


def test_a_folder_that_is_set_aside_takes_the_first_free_number(tmp_path):
  (tmp_path / 'distil.old-2').symlink_to('nowhere')
  for n in (1, 3):
    (tmp_path / 'distil').mkdir()
    (tmp_path / 'distil' / 'file').write_text(str(n))
    (tmp_path / 'distil' / LOCK).touch()
    place = order.set_aside(tmp_path / 'distil')
    assert place == tmp_path / f'distil.old-{n}'
    assert (place / 'file').read_text() == str(n)
    assert not (place / LOCK).exists()
  assert not (tmp_path / 'distil').exists()


@pytest.mark.slow
def test_a_grown_run_is_refused_untouched_or_set_aside(tmp_path):
  toy = (tiny.TOY, *tiny.UNMEASURED)
  tiny.train_here(tmp_path, *toy)

  def files():
    found = [p for p in tmp_path.rglob('*') if p.is_file()]
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in found}

  before = files()
  for options in (train.Options(), train.Options(stage='flow')):
    stages = tiny.check_here(tiny.stages(*toy, 'train.steps=3'), tmp_path)
    with pytest.raises(ConfigError, match='distil would have to start again'):
      train.run(stages, options)
    assert files() == before
  tiny.train_here(tmp_path, *toy)  # the old command still works
  stages = tiny.check_here(tiny.stages(*toy, 'train.steps=3'), tmp_path)
  with locked(tmp_path / 'flow', 'train'):
    with pytest.raises(ConfigError, match='flow is in use'):
      train.run(stages, train.Options(set_aside=True))
    assert not (tmp_path / 'distil.old-1').exists()
  train.run(stages, train.Options(set_aside=True))
  train.set_aside(stages, ['distil'], ['flow', 'distil'])  # a second process
  assert not (tmp_path / 'distil.old-2').exists()
  for name, step in (('flow', 3), ('distil', 3), ('distil.old-1', 2)):
    assert str(step) in os.listdir(tmp_path / name / 'checkpoints')
  with pytest.raises(ConfigError, match='train.steps was 3, is 2'):
    tiny.train_here(tmp_path, *toy)


@pytest.mark.parametrize(
  ('text', 'value'), [(None, True), ('true', True), ('False', False)]
)
def test_the_option_needs_no_value(text, value):
  options = parse_options(JOBS, 'train', [('set_aside', text)])
  assert options.set_aside == value
  with pytest.raises(ConfigError, match='=maybe must be true or false'):
    parse_options(JOBS, 'train', [('set_aside', 'maybe')])
