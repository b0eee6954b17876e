"""The objective that CONTRIBUTING.md adds: its code runs as it stands there."""

import pathlib
import re
import sys
import types

import pytest
from jobs import tiny

from flowdistill.objectives import OBJECTIVES
from flowdistill.stages.kinds import load_stages

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
MODULE = 'flowdistill.objectives.halved_jumps'


def block(path):
  """The code that follows **the ...**, `path`."""
  after = TEXT.split(f'`{path}`', 1)[1]
  return re.search(r'```python\n(.*?)```', after, re.DOTALL)[1]


@pytest.fixture
def added(monkeypatch):
  """Adds the module and its line in the table."""
  module = types.ModuleType(MODULE)
  exec(block('flowdistill/objectives/halved_jumps.py'), module.__dict__)
  monkeypatch.setitem(sys.modules, MODULE, module)
  monkeypatch.setitem(OBJECTIVES, 'halved_jumps', module.halved_jumps)


@pytest.mark.usefixtures('added', 'x64')
def test_its_oracle_test_passes():
  names = {}
  exec(block('tests/objectives/test_halved_jumps.py'), names)
  tests = [f for name, f in names.items() if name.startswith('test_')]
  assert len(tests) == 1
  tests[0]()


@pytest.mark.usefixtures('added')
def test_its_config_is_accepted(tmp_path):
  path = tmp_path / 'moons_halved_jumps.py'
  path.write_text(block('configs/moons_halved_jumps.py'))
  stages = load_stages(str(path))
  assert list(stages) == ['flow', 'distil']
  assert stages['distil']['objective']['name'] == 'halved_jumps'
  assert stages['distil']['objective']['times']['name'] == 'sorted_uniform'


@pytest.mark.slow
@pytest.mark.usefixtures('added')
def test_its_command_trains_both_stages(tmp_path):
  """Two steps of a tiny network, with the override that the text gives."""
  path = tmp_path / 'moons_halved_jumps.py'
  path.write_text(block('configs/moons_halved_jumps.py'))
  override = 'stages.distil.objective.times.name=interval'
  assert f'`--config.{override}`' in TEXT
  rows = tiny.train_here(tmp_path / 'run', f'{path}:runlocal', override)
  assert {row['model'] for row in rows} == {'teacher', 'student'}
