r"""Align Your Flow on digits of 32 x 32: autoguided, then adversarial.

  python -m flowdistill.main --config configs/ayf/digits32.py \
    --workdir runs/ayf_digits32

Data and networks of the sizes of configs/slimflow/digits32.py; the teacher has
no null label, as a weak network guides. The stages: see small.py.

Medians over --config.seed=0, 1 and 2 on two cores of an AMD EPYC, Fréchet
distance (digits), λ = 1.5: teacher 0.678 at 31 NFE, guided 0.678 at 62; student
of EMD 0.866, 0.754, 0.721 and 0.768 at 1, 2, 4 and 8 NFE, finetuned 0.933,
0.748, 0.760 and 0.787. The time on an idle machine: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside, choose

small = beside(__file__, 'small')
# ln √16, for an image has 16 times as many pixels as the original digits.
MEAN = 1.4


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  ayf = small.Small(
    network={'width': 128, 'depth': 3},
    weak={'width': 96, 'depth': 2},
    flow_times={'name': 'logit_normal', 'mean': MEAN},
    times={'name': 'sorted_uniform', 'instant': 0.25},
    steps={'flow': 3000, 'weak': 2000, 'distil': 3000, 'adversarial': 400},
    rates={'flow': 2e-3, 'weak': 2e-3, 'distil': 3e-4, 'adversarial': 1e-4},
    half_lives={'flow': 140, 'weak': 70, 'distil': 140, 'adversarial': 140},
    warmup=2000,
    scales=(1.0, 3.0),
    scale=1.5,
    discriminator={'channel_base': 256, 'channel_max': 64},
    solver=['heun', 31],
    measure={},
  )
  return ConfigDict(
    {
      'dataset': {'name': 'digits', 'size': 32},
      'network': {'name': 'dit', 'heads': 4, 'patch': 8},
      'train': {'batch_size': 64},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 100}},
      'evaluation': {'features': 'digits'},
      'stages': ayf.stages(),
    },
    sort_keys=False,
  )
