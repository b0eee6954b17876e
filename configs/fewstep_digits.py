r"""Every few-step objective on the digits, at one cost, in one table.

  python -m flowdistill.main --config configs/fewstep_digits.py:all \
    --job=compare --workdir runs/fewstep_digits

The argument is a method of METHODS or `all`, which also trains LEADERS with the
seeds 1 and 2. The teacher is that of the quickstart, with a warm-up of the
learning rate. A method that starts from the teacher is trained for BUDGET
forward passes of a batch (a gradient counts as two more); one that starts from
scratch gets the teacher's forward passes on top, and the teacher's learning
rate. The table states the counted cost of each.

It took 86 min on two cores of a 2.8 GHz Intel Xeon that were busy with other
work. Fréchet distance (digits) at 1, 2, 4 and 8 NFE, medians over three seeds:
ayf_emd_guided 1.17, 0.969, 0.924 and 0.903, ect 1.17, 0.939, 0.858 and 0.879.
The teacher: 1.09 at 31 NFE. README has the other methods.
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import choose

TEACHER_STEPS, TEACHER_RATE = 1800, 2e-3
BUDGET, RATE = 9000, 5e-4
RATES = {'distillation': 2e-3, 'rcgm': 1e-3, 'twinflow': 1e-3}
# How a method is sampled: as its average velocity is evaluated in training.
FEW = (1, 2, 4, 8)
JUMPS = [['flow_map', nfe] for nfe in FEW]
ONCE = [['flow_map', 1]]
LATE = {'grid': {'name': 'shifted', 'shift': 8.0}}
TO_DATA = [['consistency', nfe, LATE] for nfe in FEW]
LOGIT_NORMAL = {'name': 'logit_normal', 'std': 1.4}
UNIFORM_PAIRS = {'name': 'sorted_uniform'}
HALF_INSTANT = {'name': 'mostly_instant', 'instant': 0.5}
GUIDED = {'name': 'ayf_emd', 'guidance': {'name': 'fixed', 'scale': 1.5}}
PAIRS = {'times': UNIFORM_PAIRS}
WARM_UP = {'warmup_steps': 1000}
FLOW = {'distil': True}
LOGIT_NORMAL_FLOW = {'flow_times': 'logit_normal'}
WEAK = {'source': 'stage:flow', 'weights': 'early'}

# Method -> cost of a step in forward passes (docs/objectives.md), how it is
# sampled, what it needs besides its own network, options of its objective.
METHODS: dict[str, tuple[float, list[Any], str, dict[str, Any]]] = {
  'ayf_emd': (5, JUMPS, 'teacher', {**PAIRS, **WARM_UP}),
  'ayf_emd_guided': (6, JUMPS, 'teacher weak', {**GUIDED, **PAIRS, **WARM_UP}),
  'ayf_lmd': (5, JUMPS, 'teacher', {**PAIRS, **WARM_UP}),
  'distillation': (
    11,
    ONCE,
    'teacher',
    {'solver_steps': 4, 'regulariser': 0.0},
  ),
  'scm': (5, TO_DATA, 'teacher', {'times': LOGIT_NORMAL, **FLOW, **WARM_UP}),
  'ect': (4, TO_DATA, 'init', {'times': LOGIT_NORMAL, 'double_steps': 300}),
  'facm': (8, TO_DATA, 'teacher', {'times': LOGIT_NORMAL, **FLOW}),
  'rcgm': (6, JUMPS, 'teacher', {**PAIRS, **FLOW, 'target': 'ema'}),
  'twinflow': (9, JUMPS, 'teacher', {**FLOW, 'target': 'ema'}),
  'mean_flow': (4, JUMPS, 'scratch', {}),
  'improved_mean_flow': (5, JUMPS, 'scratch', {'times': HALF_INSTANT}),
  'shortcut': (3.5, JUMPS, 'scratch', {}),
  'tvm': (10, JUMPS, 'scratch', {'target': 'student', **LOGIT_NORMAL_FLOW}),
}
MANY = [*(['euler', nfe] for nfe in (1, 2, 4, 8)), ['heun', 31]]
LEADERS = ('ayf_emd_guided', 'ect')
CHOICES = {**{name: (name,) for name in METHODS}, 'all': tuple(METHODS)}


def get_config(arg: str = '') -> ConfigDict:
  names = choose(arg, CHOICES, default='all')
  stages = {'flow': teacher(), **{name: stage(name) for name in names}}
  if arg == 'all':
    for name in LEADERS:
      stages |= {f'{name}_seed{k}': {**stage(name), 'seed': k} for k in (1, 2)}
  return ConfigDict(
    {
      'dataset': {'name': 'digits'},
      'network': {'name': 'dit', 'width': 64, 'depth': 3, 'heads': 4},
      'train': {'batch_size': 128},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 100}},
      'ema': {'main': {'half_life': {'steps': 140}}},
      'evaluation': {'features': 'digits'},
      'stages': stages,
    },
    sort_keys=False,
  )


def teacher() -> dict[str, Any]:
  return {
    'objective': {'name': 'rectified_flow', 'times': 'logit_normal'},
    'train': {'steps': TEACHER_STEPS, 'drop_cond': 0.1},
    'optim': {'schedule': {'learning_rate': TEACHER_RATE}},
    'ema': {'early': {'half_life': {'steps': 140}, 'until': {'steps': 700}}},
    **measured(MANY),
  }


def stage(name: str) -> dict[str, Any]:
  """The stage of one method, for as many steps as its budget allows."""
  cost, entries, needs, options = METHODS[name]
  scratch = needs == 'scratch'
  rate = TEACHER_RATE if scratch else RATES.get(name, RATE)
  budget = BUDGET + 3 * TEACHER_STEPS * scratch
  roles = {'teacher': 'stage:flow', 'weak': WEAK}
  return {
    'init_from': None if scratch else 'stage:flow',
    'frozen': {r: roles[r] for r in needs.split() if r in roles},
    'objective': {'name': name, **options},
    'train': {'steps': round(budget / cost)},
    'optim': {'schedule': {'learning_rate': rate}},
    **measured(entries),
  }


def measured(entries: list[Any]) -> dict[str, Any]:
  """How a stage is evaluated."""
  sweep = {'student': entries}
  return {'evaluators': {'few_step': {'name': 'few_step', 'sweep': sweep}}}
