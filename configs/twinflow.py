r"""TwinFlow on the digits: every recipe of its README, by settings alone.

  python -m flowdistill.main --config configs/twinflow.py:twinflow \
    --workdir runs/twinflow

The argument is the recipe:

  twinflow       the default
  data_free      the same from the teacher alone: no training image is opened
  rcgm           RCGM as it is used in practice
  rcgm_theory    RCGM alone, with arbitrary jumps
  flow_matching  no jumps, from scratch
  lora_order1    the settings for LoRA adapters, only those of the objective:
  lora_order2    here the whole network is trained

The student starts from a rectified flow, the teacher of the quickstart. With
the paper's `enhanced_ratio` of 0.8 it would learn that flow under guidance.
Here the ratio is 0 (for data_free it is a guidance scale, 1 where the paper has
4), because guidance makes this teacher worse.

Source: the README and the configs of https://github.com/inclusionAI/TwinFlow:
OpenUni's for the whole network, SD3.5-M's for adapters.

Time and Fréchet distances: not yet measured.
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import choose

MUL = {'e2e': 0.0, 'mul': 1.0, 'any': 0.0, 'adv': 0.0}
ANY = {'e2e': 0.0, 'mul': 0.0, 'any': 1.0, 'adv': 0.0}
NO_TWIN = {'e2e': 1.0, 'mul': 1.0, 'any': 1.0, 'adv': 0.0}
ALL = {'e2e': 1.0, 'mul': 1.0, 'any': 1.0, 'adv': 1.0}
ONE = {'e2e': 1.0, 'mul': 1.0, 'any': 0.0, 'adv': 1.0, 'one': 1.0}
TWINFLOW = {'kinds': ALL, 'order': 2, 'matching': 0.75}
DATA_FREE = {'data_free': True, 'target': 'frozen', 'enhanced_ratio': 1.0}
NO_JUMP = {'kinds': MUL, 'order': 0, 'matching': 0.0, 'consistency_ratio': 0.0}
# Options of the objective, and the decay of the EMA weights that give its
# target (None: no such EMA).
RECIPES = {
  'twinflow': (TWINFLOW, 0.999),
  'data_free': (TWINFLOW | DATA_FREE, None),
  'rcgm': ({'kinds': NO_TWIN, 'order': 2, 'matching': 0.0}, 0.999),
  'rcgm_theory': ({'kinds': ANY, 'order': 2, 'matching': 0.0}, 0.999),
  'flow_matching': (NO_JUMP, None),
  'lora_order1': ({'kinds': ONE, 'order': 1, 'matching': 0.5}, None),
  'lora_order2': ({'kinds': ALL, 'order': 2, 'matching': 0.5}, 0.99),
}
MANY = [['euler', 8], ['heun', 31]]
FEW = [['flow_map', 1], ['flow_map', 2], ['flow_map', 4], ['flow_map', 8]]


def get_config(arg: str = '') -> ConfigDict:
  options, decay = choose(arg, RECIPES, default='twinflow')
  objective = {'name': 'twinflow', **options}
  scratch = {
    'train': {'steps': 1800, 'drop_cond': 0.1},
    'optim': {'schedule': {'learning_rate': 2e-3}},
    'ema': {'main': {'half_life': {'steps': 140}}},
  }
  if not objective['order']:
    stages = {'flow': {**scratch, 'objective': objective, **measured(MANY)}}
  else:
    flow = {'name': 'rectified_flow', 'times': 'logit_normal'}
    stages = {
      'flow': {**scratch, 'objective': flow, **measured(MANY)},
      'few_step': {**student(objective, decay), **measured(FEW + MANY)},
    }
  return ConfigDict(
    {
      'dataset': 'digits',
      'network': {'name': 'dit', 'width': 64, 'depth': 3, 'heads': 4},
      'train': {'batch_size': 128},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 100}},
      'evaluation': {'features': 'digits'},
      'stages': stages,
    },
    sort_keys=False,
  )


def student(objective: dict[str, Any], decay: float | None) -> dict[str, Any]:
  """The few-step student of a flow."""
  average = {'half_life': {'steps': 140}} if decay is None else {'decay': decay}
  target = {} if decay is None else {'target': 'ema'}
  frozen = {'teacher': 'stage:flow'} if 'data_free' in objective else {}
  return {
    'init_from': 'stage:flow',
    'frozen': frozen,
    'objective': {**objective, **target},
    'train': {'steps': 1400, 'data_free': 'data_free' in objective},
    'optim': {'schedule': {'learning_rate': 5e-4}},
    'ema': {'main': average},
  }


def measured(entries: list[Any]) -> dict[str, Any]:
  """How a stage is evaluated."""
  sweep = {'student': entries}
  return {'evaluators': {'few_step': {'name': 'few_step', 'sweep': sweep}}}
