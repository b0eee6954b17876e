r"""Emoji at 32 x 32: a DiT teacher and a guided AYF-EMD student.

  python -m flowdistill.main --config configs/emoji.py --workdir runs/emoji

The pictures are those of Debian's fonts-noto-color-emoji, with the subgroups of
its unicode-data as classes (docs/data.md); a tenth of the figures is held out.
The student is distilled with λ = 1.5 against the unconditional teacher, so that
the guided teacher can be sampled as well. Samples are compared with the
training pictures; `memorised` counts mirrored ones, and measures what is near
between different figures, as skin tones of one are nearly equal.

Medians of Fréchet distances and the time that it takes: not yet measured. The
lengths are chosen for less than an hour on two cores of a 2.8 GHz Intel Xeon,
calculated from the 1.1 CPU seconds of a teacher's step; one of the student
costs two.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose

SCALE = 1.5
GUIDED = {'guidance': SCALE}
FEW = [['flow_map', nfe] for nfe in (1, 2, 4, 8)]
TEACHER = [['heun', 31], ['heun', 62, GUIDED]]


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  flow = {
    'objective': {'name': 'rectified_flow', 'times': 'logit_normal'},
    'train': {'steps': 2800, 'drop_cond': 0.1},
    'optim': {'schedule': {'learning_rate': 1e-3}},
  }
  distil = {
    'init_from': 'stage:flow',
    'frozen': {'teacher': 'stage:flow'},
    'objective': {
      'name': 'ayf_emd',
      'times': 'sorted_uniform',
      'guidance': {'name': 'fixed', 'scale': SCALE},
      'against': 'null',
      'warmup_steps': 600,
    },
    'train': {'steps': 1200},
    'optim': {'schedule': {'learning_rate': 5e-4}},
    'evaluation': {'features': 'emoji'},
    'evaluators': {
      'few_step': {
        'name': 'few_step',
        'sweep': {'teacher': TEACHER, 'student': FEW},
        'samples': 1500,
        'flips': True,
        'by_figure': True,
      },
      'pictures': {
        'name': 'pictures',
        'sweep': {'teacher': TEACHER, 'student': FEW},
        'examples': 16,
      },
    },
  }
  dataset = {'name': 'emoji', 'size': 32, 'classes': 'subgroup'}
  network = {'name': 'dit', 'patch': 4, 'width': 128, 'depth': 6, 'heads': 4}
  return ConfigDict(
    {
      'dataset': {**dataset, 'split': 'train'},
      'network': network,
      'train': {'batch_size': 64},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 200}},
      'ema': {'main': {'half_life': {'steps': 200}}},
      'stages': {'flow': flow, 'distil': distil},
    },
    sort_keys=False,
  )
