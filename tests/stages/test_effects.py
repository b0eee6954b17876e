"""What a config sets without effect is dropped, unless it was typed."""

import numpy as np
import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.config.overrides import parse_override
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.effects import without_idle_defaults
from flowdistill.stages.kinds import check_stages, load_stages

CONFIG = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'


def prepared(tmp_path, *typed):
  rng = np.random.default_rng(0)
  np.save(tmp_path / 'a.npy', rng.integers(0, 256, (40, 8, 8, 1), np.uint8))
  typed = [f'dataset.path={tmp_path / "a.npy"}', *typed]
  typed = ['dataset.name=arrays', *typed]
  overrides = [
    parse_override(f'config.{k}', v)
    for k, _, v in (text.partition('=') for text in typed)
  ]
  specs = load_stages(CONFIG, overrides)
  blueprints = Blueprints(specs, tmp_path / 'run', recorded=False)
  return specs, without_idle_defaults(blueprints, overrides)


def test_a_default_without_effect_is_dropped(tmp_path):
  specs, blueprints = prepared(tmp_path)
  dropped = {n for n, s in specs.items() if s['train']['drop_cond']}
  assert dropped
  for name, spec in blueprints.specs.items():
    train = {**specs[name]['train'], 'drop_cond': 0.0}
    assert spec == {**specs[name], 'train': train}


@pytest.mark.parametrize(
  'typed', ['train.drop_cond=0.2', 'stages.flow.train.drop_cond=0.2']
)
def test_what_was_typed_is_refused(tmp_path, typed):
  _, blueprints = prepared(tmp_path, typed)
  assert blueprints.specs['flow']['train']['drop_cond'] == 0.2
  with pytest.raises(ConfigError, match='drop_cond has no effect: this data'):
    check_stages(blueprints)


def test_what_has_an_effect_is_left(tmp_path):
  specs = load_stages(CONFIG)
  blueprints = Blueprints(specs, tmp_path, recorded=False)
  assert without_idle_defaults(blueprints, []) is blueprints
