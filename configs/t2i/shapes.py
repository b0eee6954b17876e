r"""Captioned shapes at 32 x 32: a guided teacher, and few-step students of it.

  python -m flowdistill.main --config configs/t2i/shapes.py \
    --workdir runs/t2i_shapes

  python -m flowdistill.main --workdir runs/t2i_shapes --stage=twinflow \
    --job=generate --prompts="a red square" --sampler=twinflow_few --nfe=2

The argument is the recipe of the student, each by settings alone; without one
there are ayf, twinflow and datafree.

  ayf           AYF-EMD of the teacher, with λ ~ U[1, 3] as a condition
  autoguided    the same away from a weak teacher, its weights of early steps
  twinflow      the default of its paper: e2e, mul, any and adv
  rcgm          e2e, mul and any without matching, as RCGM is used in practice
  rcgm_theory   any alone
  meanflow      MeanFlow of the data, with guidance in its target
  datafree      TwinFlow of prompts alone: no picture is opened in training, and
                its target is the frozen teacher under guidance
  flow          the teacher alone

Words are tokens, and a text transformer is trained with the network. The
prompts of the evaluators are of combinations that training never shows.

Source of the recipes: the README and the configs of
https://github.com/inclusionAI/TwinFlow, there with ratios of 0.8 (a guidance of
1.8) and, data-free, of 4.

GenEval and Fréchet distances: not yet measured. On two idle cores of an AMD
EPYC a step of the teacher takes 0.38 s, one of ayf 0.63 s, of twinflow 0.83 s
and of datafree 0.81 s, by

  python -m flowdistill.main --config configs/t2i/shapes.py --job=bench \
    --stage=flow

and with the other stages: far more than an hour and a half, calculated. A
smaller teacher had learnt colours, and no shapes: GenEval 0.04 by its first
evaluator, of

  python -m flowdistill.main --config configs/t2i/shapes.py:flow \
    --workdir runs/small_teacher --config.network.width=128 \
    --config.network.depth=4 --config.train.batch_size=16 \
    --config.stages.flow.train.steps=8000 \
    --config.stages.flow.evaluators.geneval.samples=600
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import choose

GUIDED = 2.0
# A combination that is held out in each (docs/data.md).
PROMPTS = (
  'a red circle',
  'a star that is purple',
  'three rings',
  'a circle and a cross',
  'a star above a heart',
  'a red square and an orange triangle',
)
TWIN = {'e2e': 1.0, 'mul': 1.0, 'any': 1.0, 'adv': 1.0}
NO_TWIN = {**TWIN, 'adv': 0.0}
ANY = {'e2e': 0.0, 'mul': 0.0, 'any': 1.0, 'adv': 0.0}
ENHANCED = {'enhanced_ratio': GUIDED - 1, 'target': 'ema'}
TWINFLOW = {'name': 'twinflow', 'order': 2, 'kinds': TWIN, 'matching': 0.75}
RCGM = {'name': 'twinflow', 'order': 2, 'matching': 0.0, **ENHANCED}
# In place of x1 − x0, v_u + ratio (v_c − v_u) of the teacher.
OF_TEACHER = {'data_free': True, 'target': 'frozen', 'enhanced_ratio': GUIDED}
EMD = {
  'name': 'ayf_emd',
  'times': 'sorted_uniform',
  'guidance': {'name': 'uniform', 'low': 1.0, 'high': 3.0},
  'warmup_steps': 1000,
}
MEAN_FLOW = {'name': 'mean_flow', 'guidance': 1.0, 'kappa': 1 - 1 / GUIDED}
WEAK = {'source': 'stage:flow', 'weights': 'early'}
DROPPED = {'train': {'drop_cond': 0.1}}
HALF_LIFE = {'half_life': {'steps': 600}}
EARLY = {**HALF_LIFE, 'until': {'steps': 3000}}
KEPT = {'ema': {'main': {'decay': 0.999}}}  # of the target
SCALED = {'network': {'scalars': ('guidance',)}}

STUDENTS: dict[str, dict[str, Any]] = {
  'ayf': {
    **SCALED,
    'objective': {**EMD, 'against': 'null'},
    'frozen': {'teacher': 'stage:flow'},
  },
  'autoguided': {
    **SCALED,
    'objective': {**EMD, 'against': 'weak'},
    'frozen': {'teacher': 'stage:flow', 'weak': WEAK},
  },
  'twinflow': {**DROPPED, **KEPT, 'objective': {**TWINFLOW, **ENHANCED}},
  'rcgm': {**DROPPED, **KEPT, 'objective': {**RCGM, 'kinds': NO_TWIN}},
  'rcgm_theory': {**DROPPED, **KEPT, 'objective': {**RCGM, 'kinds': ANY}},
  'meanflow': {**DROPPED, 'objective': MEAN_FLOW},
  'datafree': {
    'train': {'data_free': True},
    'objective': {**TWINFLOW, **OF_TEACHER},
    'frozen': {'teacher': 'stage:flow'},
  },
}
RECIPES = {
  'main': ('ayf', 'twinflow', 'datafree'),
  'flow': (),
  **{name: (name,) for name in STUDENTS},
}
STEPS, TEACHER_STEPS = 4000, 12_000
JUMPS = [['flow_map', nfe] for nfe in (1, 2, 4)]
PUBLISHED = [['twinflow_few', 1], ['twinflow_few', 2], ['twinflow_any', 4]]
MANY = [['euler', 64, {'guidance': GUIDED}]]


def get_config(arg: str = '') -> ConfigDict:
  names = choose(arg, RECIPES, default='main')
  dataset = {
    'name': 'shapes',
    'size': 32,
    'split': 'train',
    'text': {'name': 'words', 'length': 16},
  }
  return ConfigDict(
    {
      'dataset': dataset,
      'network': {
        'name': 'mmdit', 'patch': 4, 'width': 96, 'depth': 5, 'heads': 4,
      },
      'train': {'batch_size': 32},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 200}},
      'evaluation': {
        'dataset': {**dataset, 'split': 'validation', 'examples': 2000},
        'features': 'emoji',
        'batch_size': 100,
      },
      'stages': {'flow': teacher(), **{name: student(name) for name in names}},
    },
    sort_keys=False,
  )  # fmt: skip


def teacher() -> dict[str, Any]:
  """Flow matching, with a tenth of the prompts dropped."""
  return {
    'objective': {'name': 'rectified_flow', 'times': 'logit_normal'},
    'train': {'steps': TEACHER_STEPS, 'drop_cond': 0.1},
    'optim': {'schedule': {'learning_rate': 1e-3}},
    'ema': {'main': HALF_LIFE, 'early': EARLY},
    **measured(MANY),
  }


def student(name: str) -> dict[str, Any]:
  """One recipe, from the teacher's weights."""
  recipe = STUDENTS[name]
  scaled = 'network' in recipe
  scale = {'guidance': GUIDED}
  few = [[*jump, scale] for jump in JUMPS] if scaled else JUMPS
  both = name in ('twinflow', 'datafree')
  return {
    'ema': {'main': HALF_LIFE},
    **recipe,
    'init_from': {'source': 'stage:flow', 'matching': True},
    'train': {'steps': STEPS, **recipe.get('train', {})},
    'optim': {'schedule': {'learning_rate': 5e-4}},
    **measured(few + PUBLISHED if both else few),
  }


def measured(entries: list[Any]) -> dict[str, Any]:
  """How a stage is evaluated."""
  sweep = {'student': entries}
  return {
    'evaluators': {
      'geneval': {'name': 'geneval', 'sweep': sweep, 'samples': 1200},
      'few_step': {'name': 'few_step', 'sweep': sweep, 'samples': 1500},
      'prompts': {'name': 'pictures', 'sweep': sweep, 'prompts': PROMPTS},
    }
  }
