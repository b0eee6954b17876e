r"""Emoji at 32 x 32 by their names: a guided teacher, an AYF-EMD student.

  python -m flowdistill.main --config configs/t2i/emoji.py \
    --workdir runs/t2i_emoji

  python -m flowdistill.main --workdir runs/t2i_emoji --job=generate \
    --prompts="waving hand"

The names are words, of which those that occur once are one token, and a text
transformer is trained with the network. A tenth of the figures is held out, and
with it their names. The student is distilled from the teacher with guidance
λ ~ U[1, 3] away from the empty prompt, which it takes as a condition.

Fréchet distances, and the time: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose

LOW, GUIDED, HIGH = 1.0, 2.0, 3.0
PROMPTS = (
  'waving hand: dark skin tone',
  'waving hand: light skin tone',
  'red apple',
  'green apple',
  'red heart',
  'blue heart',
  'cat face',
  'dog face',
)
TEACHER = [['heun', 62, {'guidance': GUIDED}]]
STUDENT = [['flow_map', nfe, {'guidance': GUIDED}] for nfe in (1, 2, 4)]
SWEEP = {'teacher': TEACHER, 'student': STUDENT}


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  flow = {
    'objective': {'name': 'rectified_flow', 'times': 'logit_normal'},
    'train': {'steps': 10_000, 'drop_cond': 0.1},
    'optim': {'schedule': {'learning_rate': 1e-3}},
  }
  distil = {
    'network': {'scalars': ('guidance',)},
    'init_from': {'source': 'stage:flow', 'matching': True},
    'frozen': {'teacher': 'stage:flow'},
    'objective': {
      'name': 'ayf_emd',
      'times': 'sorted_uniform',
      'guidance': {'name': 'uniform', 'low': LOW, 'high': HIGH},
      'against': 'null',
      'warmup_steps': 1000,
    },
    'train': {'steps': 4200},
    'optim': {'schedule': {'learning_rate': 5e-4}},
    'evaluation': {'features': 'emoji', 'batch_size': 100},
    'evaluators': {
      'few_step': {
        'name': 'few_step',
        'sweep': SWEEP,
        'samples': 1500,
        'flips': True,
        'by_figure': True,
      },
      'pictures': {'name': 'pictures', 'sweep': SWEEP, 'examples': 16},
      'prompts': {'name': 'pictures', 'sweep': SWEEP, 'prompts': PROMPTS},
    },
  }
  return ConfigDict(
    {
      'dataset': {
        'name': 'emoji',
        'size': 32,
        'classes': None,
        'split': 'train',
        'text': {'name': 'words', 'length': 16, 'least': 2},
      },
      'network': {
        'name': 'mmdit', 'patch': 4, 'width': 96, 'depth': 5, 'heads': 4,
      },
      'train': {'batch_size': 16},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 200}},
      'ema': {'main': {'half_life': {'steps': 600}}},
      'stages': {'flow': flow, 'distil': distil},
    },
    sort_keys=False,
  )  # fmt: skip
