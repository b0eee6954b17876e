r"""Points in the plane: a teacher and a few-step student.

  python -m flowdistill.main --config configs/toys.py:moons \
    --workdir runs/moons

The argument is the data set: moons (the default), gaussians, checkerboard.

It takes about two minutes on two CPU cores. Energy distance to the moons from
2 000 points (an unbiased estimate, so it may be below 0): teacher 0.8215 with
one Euler step and -0.0006 with 16 Heun steps, student 0.0005 at 1 NFE. The
other data sets: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose

DATASETS = {name: name for name in ('moons', 'gaussians', 'checkerboard')}


def get_config(arg: str = '') -> ConfigDict:
  flow = {
    'objective': {'name': 'rectified_flow'},
    'train': {'steps': 3000},
    'optim': {'schedule': {'learning_rate': 2e-3}},
  }
  distil = {
    'init_from': 'stage:flow',
    'frozen': {'teacher': 'stage:flow'},
    'objective': {
      'name': 'ayf_emd',
      'times': 'sorted_uniform',
      'warmup_steps': 1500,
    },
    'train': {'steps': 3000},
    'optim': {'schedule': {'learning_rate': 1e-3}},
    'evaluators': {
      'energy': {'name': 'energy'},
      'pictures': {'name': 'pictures'},
    },
  }
  return ConfigDict(
    {
      'dataset': choose(arg, DATASETS, default='moons'),
      'network': {'name': 'mlp', 'width': 128, 'depth': 3},
      'train': {'batch_size': 512},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 100}},
      'ema': {'main': {'half_life': {'steps': 140}}},
      'evaluation': {'batch_size': 2000},
      'stages': {'flow': flow, 'distil': distil},
    },
    sort_keys=False,
  )
