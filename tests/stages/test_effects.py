"""What a config sets without effect is dropped, unless it was typed."""

import numpy as np
import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.config.overrides import parse_override
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.effects import sets, without_idle_defaults
from flowdistill.stages.kinds import check_stages, load_stages
from flowdistill.workdir.record import load_spec

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
  'typed',
  [
    'train.drop_cond=0.2',
    'stages.flow.train.drop_cond=0.2',
    "train={'steps': 2, 'drop_cond': 0.2}",
  ],
)
def test_what_was_typed_is_refused(tmp_path, typed):
  _, blueprints = prepared(tmp_path, typed)
  assert blueprints.specs['flow']['train']['drop_cond'] == 0.2
  with pytest.raises(ConfigError, match='drop_cond has no effect: this data'):
    check_stages(blueprints)


def test_what_was_typed_for_all_stages_is_for_those_with_an_effect(tmp_path):
  moons = ['stages.flow.dataset=moons', 'stages.flow.network=mlp']
  typed = [*moons, 'train.flip=true', 'train.drop_cond=0.2']
  overrides = [
    parse_override(f'config.{k}', v)
    for k, _, v in (text.partition('=') for text in typed)
  ]
  run = Blueprints(load_stages(CONFIG, overrides), tmp_path, recorded=False)
  found = without_idle_defaults(run, overrides)
  trains = {name: spec['train'] for name, spec in found.specs.items()}
  both = {n: (train['flip'], train['drop_cond']) for n, train in trains.items()}
  assert both == {'flow': (False, 0.0), 'distil': (True, 0.2)}


def test_what_has_an_effect_is_left(tmp_path):
  specs = load_stages(CONFIG)
  blueprints = Blueprints(specs, tmp_path, recorded=False)
  assert without_idle_defaults(blueprints, []) is blueprints


def test_a_dict_without_the_key_types_nothing(tmp_path):
  _, blueprints = prepared(tmp_path, 'train.drop_cond=0.2')
  assert blueprints.specs['flow']['train']['drop_cond']
  override = parse_override('config.stages.flow.train', "{'steps': 2}")
  assert not sets(override, 'flow', 'drop_cond')
  assert not sets(parse_override('config.train.flip', 'true'), 'a', 'drop_cond')


def test_points_are_not_mirrored(tmp_path, caplog):
  source = tmp_path / 'config.py'
  toys = (tiny.CONFIGS / 'toys.py').read_text('utf-8')
  source.write_text(
    f'{toys}\n\nplain = get_config\n\n\ndef get_config(arg=""):\n'
    '  config = plain(arg)\n  config.train.flip = True\n  return config\n'
  )
  specs = load_stages(f'{source}:runlocal')
  assert all(spec['train']['flip'] for spec in specs.values())
  with caplog.at_level('INFO', logger='absl'):
    blueprints = without_idle_defaults(
      Blueprints(specs, tmp_path / 'run', recorded=False), []
    )
  assert not any(spec['train']['flip'] for spec in blueprints.specs.values())
  assert 'train.flip = False, for these examples are not images' in caplog.text


@pytest.mark.slow
def test_the_same_command_goes_on_with_what_was_recorded(tmp_path):
  rng = np.random.default_rng(0)
  np.save(tmp_path / 'a.npy', rng.integers(0, 256, (40, 8, 8, 1), np.uint8))
  typed = (f'dataset.path={tmp_path / "a.npy"}', 'train.batch_size=8')
  plain = ('dataset.name=arrays', 'train.steps=2', 'evaluators={}', *typed)
  for said in ('distil 2/2', 'finished before'):
    process = tiny.start(
      tmp_path / 'W', CONFIG, *plain, 'evaluation.features=none'
    )
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert said in out
    assert 'train.drop_cond = 0.0' in out
  for stage in ('flow', 'distil'):
    spec = load_spec(tmp_path / 'W' / stage)
    assert spec['train']['drop_cond'] == 0
