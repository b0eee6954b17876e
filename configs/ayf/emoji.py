r"""Align Your Flow on emoji of 32 x 32: autoguided, then adversarial.

  python -m flowdistill.main --config configs/ayf/emoji.py \
    --workdir runs/ayf_emoji

Data and network are those of configs/emoji.py, whose teacher is guided by its
null label; here a weak network guides. The stages: see small.py.

Medians over --config.seed=0, 1 and 2 on two cores of an AMD EPYC, Fréchet
distance (emoji): teacher 22.2 at 31 NFE, guided with λ = 1.5 34.1 at 62;
student of EMD at this λ 28.2, 33.2, 37.2 and 35.5 at 1, 2, 4 and 8 NFE,
finetuned 27.6, 29.4, 34.5 and 35.1, and 21.8 at 4 with fresh noise, γ = 1.
Other λ and γ are in docs/align_your_flow.md. The time on an idle machine: not
yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside, choose

small = beside(__file__, 'small')


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  ayf = small.Small(
    network={'width': 128, 'depth': 6},
    weak={'width': 96, 'depth': 4},
    flow_times={'name': 'logit_normal'},
    times={'name': 'sorted_uniform'},
    steps={'flow': 10_000, 'weak': 3000, 'distil': 4200, 'adversarial': 1000},
    rates={'flow': 1e-3, 'weak': 1e-3, 'distil': 3e-4, 'adversarial': 1e-4},
    half_lives={'flow': 600, 'weak': 300, 'distil': 600, 'adversarial': 200},
    warmup=3000,
    scales=(1.0, 3.0),
    scale=1.5,
    discriminator={'channel_base': 1024, 'channel_max': 128},
    solver=['heun', 31],
    measure={'samples': 1500, 'flips': True, 'by_figure': True},
  )
  dataset = {'name': 'emoji', 'size': 32, 'classes': 'subgroup'}
  return ConfigDict(
    {
      'dataset': {**dataset, 'split': 'train'},
      'network': {'name': 'dit', 'patch': 4, 'heads': 4},
      'train': {'batch_size': 16},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 200}},
      'evaluation': {'features': 'emoji', 'batch_size': 100},
      'stages': ayf.stages(),
    },
    sort_keys=False,
  )
