"""A key of the whole run is for the stages in which it has an effect."""

import pytest

from flowdistill.config.overrides import parse_override
from flowdistill.stages.kinds import load_stages

TRAINED = {
  'network': {'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2},
  'objective': 'rectified_flow',
  'train': {'steps': 10},
}
STAGES = {
  'encode': {'job': 'encode', 'dataset': 'digits'},
  'drawn': {'job': 'encode', 'dataset': 'digits', 'sample': True},
  'flow': {**TRAINED, 'dataset': 'digits'},
  'last': {**TRAINED, 'dataset': 'digits', 'evaluators': {'loss': 'flow_loss'}},
}


@pytest.fixture
def load(tmp_path):
  """Stages of the config, with more keys and what is typed after it."""

  def read(more, *typed):
    path = tmp_path / 'x.py'
    raw = {'stages': STAGES, **more}
    path.write_text(f'def get_config(arg):\n  return {raw!r}\n')
    pairs = [text.partition('=')[::2] for text in typed]
    overrides = [parse_override(f'config.{k}', v) for k, v in pairs]
    return load_stages(str(path), overrides)

  return read


def seeds(stages):
  return {name: spec['seed'] for name, spec in stages.items()}


@pytest.mark.parametrize(
  ('more', 'typed'),
  [({}, ['seed=3']), ({'seed': 3}, []), ({'seed': 2}, ['seed=3'])],
)
def test_what_draws_nothing_has_no_seed_of_the_run(load, more, typed):
  wanted = {'encode': 0, 'drawn': 3, 'flow': 3, 'last': 3}
  assert seeds(load(more, *typed)) == wanted


def test_it_does_not_matter_what_is_typed_first(load):
  both = ['seed=3', 'stages.encode.sample=true']
  assert seeds(load({}, *both)) == dict.fromkeys(STAGES, 3)
  assert load({}, *both) == load({}, *reversed(both))


def test_what_is_said_of_one_stage_is_left_to_its_check(load):
  assert seeds(load({}, 'stages.encode.seed=3'))['encode'] == 3
  own = {**STAGES, 'encode': {**STAGES['encode'], 'seed': 3}}
  assert seeds(load({'stages': own}, 'seed=4'))['encode'] == 4


def test_so_is_what_has_no_effect_in_any(load):
  stages = {'a': STAGES['encode'], 'b': STAGES['encode']}
  assert seeds(load({'stages': stages}, 'seed=3')) == {'a': 3, 'b': 3}


@pytest.mark.parametrize(
  ('key', 'value', 'wanted'),
  [
    ('every', '5', {'steps': 5}),
    ('features', 'digits', {'name': 'digits'}),
    ('dataset', 'digits', {'name': 'digits'}),
  ],
)
def test_what_is_for_evaluators_is_for_stages_that_have_any(
  load, key, value, wanted
):
  found = load({}, f'evaluation.{key}={value}')
  assert found['flow']['evaluation'][key] is None
  assert wanted.items() <= dict(found['last']['evaluation'][key]).items()


def test_snapshots_are_of_stages_with_a_power_ema(load):
  given = "stages.last.ema={'main': {'sigma_rel': 0.05}}"
  found = load({}, given, 'ema_snapshots.every=5')
  assert found['flow']['ema_snapshots']['every'] is None
  assert found['last']['ema_snapshots']['every'] is not None
