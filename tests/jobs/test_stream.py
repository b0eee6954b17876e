"""A source without a length: trained by position, resumed exactly."""

import pathlib

import pytest
from jobs import elastic, tiny

from flowdistill.config.bind import ConfigError

CONFIG = pathlib.Path(__file__).with_name('streamed.py')


@pytest.fixture(scope='module', autouse=True)
def tables():
  with tiny.own_tables():
    yield


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('stream')
  tiny.train_here(workdir, CONFIG)
  return workdir


def test_it_is_continued_to_the_byte(finished, tmp_path):
  tiny.train_here(tmp_path, CONFIG, 'train.steps=5')
  tiny.train_here(tmp_path, CONFIG)
  tiny.assert_same_bytes(elastic.arrays(finished), elastic.arrays(tmp_path))


def test_epochs_need_a_number_of_samples():
  here = pathlib.Path('nowhere')
  with pytest.raises(ConfigError, match='2.0 epochs needs .*num_samples'):
    tiny.check_here(tiny.stages(CONFIG, 'train.epochs=2.0'), here)
  known = tiny.stages(CONFIG, 'train.epochs=2.0', 'dataset.num_samples=40')
  assert tiny.check_here(known, here)['run'].total == 10


def test_evaluators_need_examples_by_index():
  stages = tiny.stages(
    CONFIG,
    "evaluators={'energy': {'name': 'energy', 'samples': 8, 'sweep': "
    "{'student': [['euler', 1]]}}}",
  )
  with pytest.raises(ConfigError, match='evaluation.dataset'):
    tiny.check_here(stages, pathlib.Path('nowhere'))
