r"""A student whose guidance is a knob: autoguidance, λ drawn for every example.

  python -m flowdistill.main --config configs/guided_digits.py \
    --workdir runs/guided_digits

The quickstart's teacher is distilled with λ ~ U[1, 3], as Align Your Flow does.
The student is told λ as cond['guidance'], an input that the teacher lacks and
that starts without effect. Afterwards `--guidance=2` is one call a step:

  python -m flowdistill.main --workdir runs/guided_digits --job=generate \
    --guidance=2 --nfe=2

Two CPU cores, about five minutes. Fréchet distances: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose

SCALES = (1.0, 1.5, 2.0, 3.0)


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  flow = {
    'objective': {
      'name': 'rectified_flow',
      'times': {'name': 'logit_normal'},
    },
    'train': {'steps': 1800, 'drop_cond': 0.1},
    'optim': {'schedule': {'name': 'cosine', 'learning_rate': 2e-3}},
    'ema': {'early': {'half_life': {'steps': 140}, 'until': {'steps': 700}}},
  }
  sweep = [
    ['flow_map', nfe, {'guidance': scale}] for scale in SCALES for nfe in (1, 4)
  ]
  distil = {
    'network': {'scalars': ('guidance',)},
    'init_from': {'source': 'stage:flow', 'matching': True},
    'frozen': {
      'teacher': 'stage:flow',
      'weak': {'source': 'stage:flow', 'weights': 'early'},
    },
    'objective': {
      'name': 'ayf_emd',
      'times': {'name': 'sorted_uniform'},
      'guidance': {'name': 'uniform', 'low': 1.0, 'high': 3.0},
      'warmup_steps': 1000,
    },
    'train': {'steps': 1400},
    'optim': {'schedule': {'name': 'cosine', 'learning_rate': 5e-4}},
    'evaluation': {'features': 'digits'},
    'evaluators': {
      'few_step': {'name': 'few_step', 'sweep': {'student': sweep}}
    },
  }
  return ConfigDict(
    {
      'dataset': {'name': 'digits'},
      'network': {'name': 'dit', 'width': 64, 'depth': 3, 'heads': 4},
      'train': {'batch_size': 128},
      'optim': {'schedule': {'warmup': 100}},
      'ema': {'main': {'half_life': {'steps': 140}}},
      'stages': {'flow': flow, 'distil': distil},
    },
    sort_keys=False,
  )
