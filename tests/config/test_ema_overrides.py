"""Overrides of EMAs, whose kind follows from their options."""

import pytest

from flowdistill.build.tables import ROOMS, resolve_stage
from flowdistill.config.bind import ConfigError
from flowdistill.config.overrides import apply_override, parse_override
from flowdistill.config.stages import TrainStage

HALF_LIFE = {'half_life': {'steps': 140}, 'until': {'steps': 700}}
DECAY = {'decay': 0.9, 'until': 5}


def resolved(ema):
  spec = {
    'dataset': 'moons',
    'network': 'mlp',
    'objective': 'rectified_flow',
    'train': {'steps': 10},
    'ema': ema,
  }
  return resolve_stage(spec)


def overridden(ema, *typed):
  """The EMAs of a stage after overrides such as 'ema.main.decay=0.5'."""
  stage = resolved(ema)
  for text in typed:
    override = parse_override(*f'config.{text}'.split('='))
    types = {'flow': TrainStage}
    stages = apply_override(
      {'flow': stage}, override, types, ROOMS, named=False
    )
    stage = resolve_stage(stages['flow'])
  return stage['ema']


def test_an_ema_has_the_options_of_its_kind():
  found = resolved({'main': {}, 'slow': DECAY})['ema']
  common = {'until': None, 'dtype': 'float32'}
  assert found['main'] == {
    'name': 'half_life',
    'half_life': {'images': 500_000},
    'ramp': 0.05,
    **common,
  }
  slow = {
    'name': 'decay',
    'decay': 0.9,
    'warmup': {'name': 'recursive'},
    'until': {'steps': 5},
  }
  assert found['slow'] == {**common, **slow}


@pytest.mark.parametrize(
  ('ema', 'typed', 'expected'),
  [
    (HALF_LIFE, ['ema.main.decay=0.5'], {**DECAY, 'decay': 0.5, 'until': 700}),
    (HALF_LIFE, ['ema.main.half_life=7'], {**HALF_LIFE, 'half_life': 7}),
    (
      HALF_LIFE,
      ['ema.main.half_life.images=7'],
      {**HALF_LIFE, 'half_life': {'images': 7}},
    ),
    (
      DECAY,
      ['ema.main.half_life.images=7'],
      {'half_life': {'images': 7}} | {'until': 5},
    ),
    (DECAY, ['ema.main.ramp=none'], {'ramp': None, 'until': 5}),
    (DECAY, ['ema.main.dtype=bfloat16'], {**DECAY, 'dtype': 'bfloat16'}),
    (DECAY, ['ema.main.name=half_life'], {}),
    (DECAY, ['ema.main.warmup=none'], {**DECAY, 'warmup': None}),
    (DECAY, ['ema.main.warmup=power'], {**DECAY, 'warmup': 'power'}),
    (
      HALF_LIFE,
      ['ema.main.warmup=hyperbolic'],
      {'name': 'decay', 'warmup': 'hyperbolic', 'until': 700},
    ),
    (
      {**DECAY, 'warmup': 'hyperbolic'},
      ['ema.main.warmup.offset=5.0'],
      {**DECAY, 'warmup': {'name': 'hyperbolic', 'offset': 5.0}},
    ),
    (DECAY, ['ema.main.half_life=7', 'ema.main.decay=0.9'], DECAY),
  ],
)
def test_an_option_of_another_kind_changes_the_kind(ema, typed, expected):
  """Common options stay, and those of the old kind are dropped."""
  wanted = resolved({'main': expected})['ema']['main']
  assert overridden({'main': ema}, *typed)['main'] == wanted


def test_a_new_ema_needs_no_kind():
  found = overridden({'main': {}}, 'ema.late.decay=0.5')
  assert found['late']['name'] == 'decay'
  assert found['late']['decay'] == 0.5


@pytest.mark.parametrize(
  ('ema', 'message'),
  [
    (
      {'main': {'half_life': 5, 'decay': 0.9}},
      "config.ema.main.decay = 0.9: half_life takes no 'decay'; the choices",
    ),
    (
      {'main': {'name': 'decay', 'ramp': 0.1}},
      "config.ema.main.ramp = 0.1: decay takes no 'ramp'",
    ),
    (
      {'main': {'decay': 0.9, 'warmup': 'hyperbolik'}},
      "config.ema.main.warmup = 'hyperbolik' does not exist; did you mean 'hyp",
    ),
    (
      {'main': {'decay': 0.9, 'warmup': {'name': 'power', 'gamma': 2.0}}},
      "ema.main.warmup.gamma = 2.0: power takes no 'gamma'; did you mean 'inv",
    ),
    (
      {'main': {'decay': 0.9, 'warmup': {'name': 'power', 'power': 'high'}}},
      "config.ema.main.warmup.power = 'high'",
    ),
    (
      {'main': {'halflife': 5}},
      "'halflife'; did you mean 'half_life'?",
    ),
    ({'main': 5}, "5 (int) must be one of 'half_life', 'decay', 'power'"),
    ({'main': {'name': 'half'}}, "'half' does not exist; did you mean 'half_"),
  ],
)
def test_an_option_that_no_kind_takes(ema, message):
  with pytest.raises(ConfigError) as raised:
    resolved(ema)
  assert message in str(raised.value)


def test_a_mistyped_override_lists_the_options_of_every_kind():
  with pytest.raises(ConfigError, match="no key 'decy'; did you mean 'decay'"):
    overridden({'main': {}}, 'ema.main.decy=0.5')


def test_a_resolved_ema_stays_as_it_is():
  once = resolved({'main': DECAY, 'early': HALF_LIFE})
  assert resolve_stage(once) == once
