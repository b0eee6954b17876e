"""configs/t2i/sd3.py has the published networks."""

import pathlib
import runpy

import pytest
from networks.test_sd3 import PUBLISHED

from flowdistill.build.tables import bind_stage
from flowdistill.config.bind import ConfigError
from flowdistill.stages.kinds import load_stages

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 't2i' / 'sd3.py'


def test_its_sizes_are_those_that_are_counted():
  sizes = runpy.run_path(str(CONFIG))['SIZES']
  assert sizes == {name: options for name, (options, *_) in PUBLISHED.items()}


@pytest.mark.parametrize('arg', ['', 'size=medium,teacher=runs/a', 'runlocal'])
def test_its_stages_are_accepted(arg):
  found = load_stages(f'{CONFIG}:{arg}')
  stages = ['distil'] if 'teacher' in arg else ['flow', 'distil']
  assert list(found) == stages
  for name, spec in found.items():
    bind_stage(spec, f'stages.{name}')
  teacher = found['distil']['frozen']['teacher']['source']
  assert teacher == ('runs/a' if 'teacher' in arg else 'stage:flow')
  network = found['distil']['network']
  assert network['target_time'] == 'scaled_gap'
  layers = 2 if arg == 'runlocal' else 24
  assert network['num_layers'] == layers


def test_a_word_that_is_unknown_is_refused():
  with pytest.raises(ConfigError, match="'techer'.*did you mean 'teacher='"):
    load_stages(f'{CONFIG}:techer=runs/a')
