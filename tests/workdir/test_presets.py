import dataclasses

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Sampling
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.training.json_files import write_json
from flowdistill.workdir.presets import (
  PRESETS,
  Preset,
  preset_of,
  read_presets,
  write_presets,
)

TWO = Preset(
  model='student',
  sampler='gamma',
  nfe=2,
  options={'gamma': 0.3, 'guidance': 1.5},
  figure='frechet_digits',
  value=2.5,
  samples=100,
  seed=1,
  step=10,
  weights='ema',
)
ONE = dataclasses.replace(TWO, nfe=1, sampler='flow_map', options={})


def test_presets_are_added_and_replaced(tmp_path):
  assert read_presets(tmp_path) == []
  write_presets(tmp_path, [TWO])
  write_presets(tmp_path, [ONE])
  assert read_presets(tmp_path) == [ONE, TWO]
  better = dataclasses.replace(TWO, value=1.0)
  write_presets(tmp_path, [better])
  assert read_presets(tmp_path) == [ONE, better]
  assert preset_of(tmp_path, 'student', 2) == better


def test_a_preset_is_a_way_of_sampling():
  assert TWO.sampling == Sampling('gamma', 2, {'gamma': 0.3}, None, 1.5)
  assert ONE.sampling == Sampling('flow_map', 1)


def test_a_missing_preset_names_those_that_there_are(tmp_path):
  with pytest.raises(ConfigError, match=r'there is none; --job=evaluate --tun'):
    preset_of(tmp_path, 'student', 2)
  write_presets(tmp_path, [ONE, TWO])
  with pytest.raises(ConfigError, match=r'at 4 NFE in .* presets of 1, 2 NFE'):
    preset_of(tmp_path, 'student', 4)
  with pytest.raises(ConfigError, match=r'of the teacher at 2 NFE .* none;'):
    preset_of(tmp_path, 'teacher', 2)


@pytest.mark.parametrize('row', [[], {}, {**vars(TWO), 'nfe': 'two'}])
def test_another_content_is_refused(tmp_path, row):
  write_json(tmp_path / PRESETS, [row])
  with pytest.raises(DamagedFileError, match=PRESETS):
    read_presets(tmp_path)
