r"""From real digits to a few-step student.

  python -m flowdistill.main --config configs/quickstart.py \
    --workdir runs/quickstart

Trains a rectified-flow teacher on the 1 797 handwritten digits that ship with
scikit-learn, distils it with AYF-EMD (autoguided: the weak network is the
teacher's own EMA weights at step 700), and evaluates both.

It took 5 min 37 s on two cores of a 2.8 GHz Intel Xeon. Fréchet distance
(digits), medians over seeds 0, 1 and 2: teacher 1.27 at 31 NFE; student 1.51,
1.11, 1.08 and 1.05 at 1, 2, 4 and 8 NFE.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose


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
  distil = {
    'init_from': 'stage:flow',
    'frozen': {
      'teacher': 'stage:flow',
      'weak': {'source': 'stage:flow', 'weights': 'early'},
    },
    'objective': {
      'name': 'ayf_emd',
      'times': {'name': 'sorted_uniform'},
      'guidance': {'name': 'fixed', 'scale': 1.5},
      'warmup_steps': 1000,
    },
    'train': {'steps': 1400},
    'optim': {'schedule': {'name': 'cosine', 'learning_rate': 5e-4}},
    'evaluation': {'features': 'digits'},
    'evaluators': {
      'few_step': {'name': 'few_step'},
      'pictures': {'name': 'pictures'},
    },
  }
  return ConfigDict(
    {
      'dataset': {'name': 'digits'},
      'network': {'name': 'dit', 'width': 64, 'depth': 3, 'heads': 4},
      'train': {'batch_size': 128},
      'ema': {'main': {'half_life': {'steps': 140}}},
      'stages': {'flow': flow, 'distil': distil},
    },
    sort_keys=False,
  )
