"""The stages of a run that have begun."""

import json

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.workdir.folders import identity, stage_names


@pytest.fixture
def workdir(tmp_path):
  (tmp_path / 'config.json').write_text('{"stages": ["flow", "distil"]}')
  for name in ('flow', 'distil'):
    (tmp_path / name).mkdir()
  return tmp_path


def begin(folder):
  (folder / 'config.json').write_text(json.dumps({'config': {}}))


def test_those_that_have_begun_in_order(workdir):
  with pytest.raises(ConfigError, match='none of the stages .* has begun'):
    stage_names(workdir)
  begin(workdir / 'flow')
  assert stage_names(workdir) == ['flow']
  begin(workdir / 'distil')
  assert stage_names(workdir) == ['flow', 'distil']


@pytest.mark.parametrize('name', ['checkpoints', 'pairs', 'results.json'])
def test_a_stage_without_its_record_is_not_left_out(name, workdir):
  begin(workdir / 'flow')
  (workdir / 'distil' / name).mkdir()
  with pytest.raises(DamagedFileError, match='distil is damaged: .* no config'):
    stage_names(workdir)


def test_a_folder_is_known_by_more_than_its_name(workdir):
  flow = workdir / 'flow'
  before = identity(flow)
  (flow / 'file').touch()
  assert identity(flow) == before
  flow.rename(workdir / 'old')
  assert identity(flow) == (0, 0)
  flow.mkdir()
  assert identity(flow) not in (before, (0, 0))
