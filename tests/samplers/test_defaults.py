"""What a sampler and a grid are by default."""

from defaults import defaults

from flowdistill.samplers import GRIDS, SAMPLERS

RK45 = {
  'rtol': 1e-5,
  'atol': 1e-5,
  'safety': 0.9,
  'min_factor': 0.2,
  'max_factor': 10.0,
  'first_step': 0.05,
  'max_steps': 1000,
}
DRIFTING = {'stochasticity': 0.0, 'extrapolation': 0.0}


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(SAMPLERS) == {
    'euler': {},
    'heun': {},
    'rk4': {},
    'rk45': RK45,
    'flow_map': {},
    'consistency': {},
    'gamma': {'gamma': 0.5},
    'jump_renoise': {'gamma': 0.5},
    'few': {'stochasticity': 1.0, 'extrapolation': 0.0},
    'any': DRIFTING,
    'mul': {**DRIFTING, 'order': 1, 'correct_last': False},
  }


def test_what_a_config_may_name_as_a_grid():
  assert defaults(GRIDS) == {
    'uniform': {'start': 1.0},
    'shifted': {'shift': 3.0},
    'logit_normal': {'mean': 0.0, 'std': 1.0},
    'karras': {'rho': 7.0, 'sigma_min': 0.002, 'sigma_max': 80.0},
    'kumaraswamy': {'a': 1.0, 'b': 1.0, 'c': 1.0, 'gap': (0.0, 0.0)},
    'explicit': {'times': (1.0, 0.0)},
  }
