"""What an objective is by default: where a paper has a value, that value."""

from defaults import defaults

from flowdistill.flow import times
from flowdistill.flow import weighting as weights
from flowdistill.flow.couplings import independent
from flowdistill.flow.losses import mean, total
from flowdistill.flow.tangent import jvp
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.branches import Kinds
from flowdistill.objectives.fakes import Fakes

AYF = {
  'times': times.interval,
  'weight': weights.uniform,
  'guidance': None,
  'against': 'weak',
  'guidance_low': 0.0,
  'guidance_high': 1.0,
  'max_r': 0.99,
  'warmup_steps': 10_000,
  'c': 0.1,
  'reduction': total,
  'tangent': jvp,
}
CONSISTENCY = {
  'times': times.logit_normal,
  'weight': weights.uniform,
  'distil': False,
}
RECURSION = {
  'weight': weights.tangent,
  'order': 2,
  'delta': 0.01,
  'clip': 1.0,
  'loss': 'barron',
  'c': 1e-3,
  'reduction': mean,
  'enhanced_ratio': 0.0,
  'enhanced_range': (0.0, 1.0),
  'target': 'student',
  'distil': False,
}
NO_GUIDANCE = {'guidance': 1.0, 'guidance_low': 0.0, 'guidance_high': 1.0}
MEAN_FLOW = {
  'times': times.mostly_instant,
  'distil': False,
  'p': 1.0,
  'c': 0.01,
  'reduction': total,
  'tangent': jvp,
}


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(OBJECTIVES) == {
    'rectified_flow': {
      'times': times.uniform,
      'coupling': independent,
      'weight': weights.uniform,
      'distance': ('l2',),
      'reduction': total,
      'resize': 64,
      'alignment': 0.0,
    },
    'ayf_emd': AYF,
    'ayf_lmd': AYF,
    'distillation': {
      'times': times.grid,
      'weight': weights.uniform,
      'distance': ('l2',),
      'reduction': mean,
      'resize': 64,
      'regulariser': 1.0,
      'tau': (0.2, 0.8),
      'solver_steps': 0,
    },
    'ect': {
      **CONSISTENCY,
      'q': 2.0,
      'double_steps': 10_000,
      'k': 8.0,
      'b': 1.0,
      'c': 0.06,
      'reduction': total,
    },
    'scm': {
      **CONSISTENCY,
      'std': 0.5,
      'max_r': 1.0,
      'warmup_steps': 10_000,
      'c': 0.1,
      'reduction': total,
      'tangent': jvp,
    },
    'mean_flow': {**MEAN_FLOW, **NO_GUIDANCE, 'kappa': 0.0},
    'improved_mean_flow': {**MEAN_FLOW, 'guidance': None, 'middle': 0.5},
    'shortcut': {
      'distil': False,
      'smallest': 128,
      'share': 0.25,
      'target': 'ema',
      'guidance': 1.0,
      'clip': 4.0,
      'reduction': total,
    },
    'rcgm': {
      **RECURSION,
      'times': times.sorted_uniform,
      'coupling': independent,
    },
    'twinflow': {
      **RECURSION,
      'kinds': Kinds(e2e=1.0, mul=1.0, any=1.0, adv=1.0, one=0.0),
      'times': times.uniform,
      'consistency_ratio': 1.0,
      'multi_gap': 0.05,
      'data_free': False,
      'matching': 0.5,
      'matching_times': times.uniform,
      'matching_clip': 1.0,
    },
    'tvm': {
      'times': times.interval,
      'flow_times': None,
      'distil': False,
      'target': 'ema',
      'guidance': None,
      'reduction': total,
      'tangent': jvp,
    },
    'facm': {
      **NO_GUIDANCE,
      'times': times.logit_normal,
      'distil': False,
      'cosine': 1.0,
      'p': 0.5,
      'clip': 1.0,
      'q': 0.5,
      'c': 1e-3,
      'beta': 1.0,
      'reduction': mean,
      'tangent': jvp,
    },
    'adversarial': {
      'base': OBJECTIVES['ayf_emd'],
      'fakes': Fakes(nfe=1, gamma=0.0, guidance=None),
      'alpha': 0.1,
      'adaptive': 'base',
      'layers': '*',
      'max_weight': 1e4,
    },
    'relativistic': {
      'fakes': Fakes(),
      'r1': 0.1,
      'r2': 0.1,
      'penalty_every': 1,
    },
  }
