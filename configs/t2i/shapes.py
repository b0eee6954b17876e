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

The pictures are encoded once, in the latents of a small autoencoder that ships.
Words are tokens, and a text transformer is trained with the network. A stage
before the flow asks the network which shape is where in noise, as the flow
alone does not learn what the order of the words says. The prompts of the
evaluators are of combinations that training never shows.

Source of the recipes: the README and the configs of
https://github.com/inclusionAI/TwinFlow, there with ratios of 0.8 (a guidance of
1.8) and, data-free, of 4.

GenEval and Fréchet distances of three seeds, and the time of the whole: not yet
measured. What one training of the teacher and of the three students gave is in
docs/t2i_shapes.md; the teacher is below GenEval 0.90, and what is missing is
there, too.
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import choose
from flowdistill.metrics.geneval import TAGS

GUIDED = 2.0
STEPS, TWIN_STEPS, ALIGNED_STEPS, TEACHER_STEPS = 2000, 1200, 1600, 7000
EXAMPLES = 60_000
HARD = ('position', 'color_attr')  # the order of the words counts in them
MIXED, ORDERED = (*TAGS, 'counting', *HARD), (*TAGS, *8 * HARD)
FEATURES, ALIGNMENT, ALIGNMENT_ALONE = 16, 1000.0, 1e5
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
  'warmup_steps': 500,
}
MEAN_FLOW = {'name': 'mean_flow', 'guidance': 1.0, 'kappa': 1 - 1 / GUIDED}
WEAK = {'source': 'stage:flow', 'weights': 'early'}
DROPPED = {'train': {'drop_cond': 0.1}}
HALF_LIFE = {'half_life': {'steps': 600}}
EARLY = {**HALF_LIFE, 'until': {'steps': 1000}}
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
  'twinflow': {
    **KEPT,
    'train': {'drop_cond': 0.1, 'steps': TWIN_STEPS},
    'objective': {**TWINFLOW, **ENHANCED},
  },
  'rcgm': {**DROPPED, **KEPT, 'objective': {**RCGM, 'kinds': NO_TWIN}},
  'rcgm_theory': {**DROPPED, **KEPT, 'objective': {**RCGM, 'kinds': ANY}},
  'meanflow': {**DROPPED, 'objective': MEAN_FLOW},
  'datafree': {
    'train': {'data_free': True, 'steps': TWIN_STEPS},
    'objective': {**TWINFLOW, **OF_TEACHER},
    'frozen': {'teacher': 'stage:flow'},
  },
}
RECIPES = {
  'main': ('ayf', 'twinflow', 'datafree'),
  'flow': (),
  **{name: (name,) for name in STUDENTS},
}
PUBLISHED = [['twinflow_few', 1], ['twinflow_few', 2], ['twinflow_any', 4]]
# What a flat picture shows is decided at high noise.
SHIFTED = {'name': 'shifted', 'shift': 3.0}
LATE = {'name': 'logit_normal', 'mean': 0.5, 'std': 1.2}
# Places and colours are seen there, and kinds are not.
SEEN = {'name': 'uniform', 'low': 0.6, 'high': 0.9}
MUON = {'optimiser': 'muon', 'schedule': {'learning_rate': 8e-3}}
MANY = [['euler', 64, {'guidance': GUIDED, 'grid': SHIFTED}]]
JUMPS = [['flow_map', nfe, {'grid': SHIFTED}] for nfe in (1, 2, 4)]
WORDS = {'name': 'words', 'length': 16}
SHAPES = {'name': 'shapes', 'size': 32}

ALIGNED = {
  'network': {'features': FEATURES},
  'frozen': {'features': 'shapes_kl'},
  'optim': MUON,
}


def get_config(arg: str = '') -> ConfigDict:
  names = choose(arg, RECIPES, default='main')
  students = {name: student(name) for name in names}
  stages = {'align': aligned(), 'flow': teacher(), **students}
  return ConfigDict(
    {
      'dataset': latents('encode'),
      'space': {'name': 'shapes_kl'},
      'network': {
        'name': 'unet', 'width': 64, 'ch_mult': (1, 1), 'res_blocks': 1,
        'attention': 4, 'head_channels': 32,
      },
      'train': {'batch_size': 64},
      'optim': {'schedule': {'name': 'cosine', 'warmup': 200}},
      'evaluation': {
        'dataset': {
          **SHAPES, 'split': 'validation', 'examples': 2000, 'text': WORDS,
        },
        'features': 'emoji',
        'batch_size': 100,
      },
      'stages': {
        'encode': encode(MIXED), 'encode_ordered': encode(ORDERED), **stages,
      },
    },
    sort_keys=False,
  )  # fmt: skip


def encode(categories: tuple[str, ...]) -> dict[str, Any]:
  """Pictures of these categories in turn to latents, once."""
  pictures = {
    **SHAPES,
    'split': 'train',
    'examples': EXAMPLES,
    'categories': categories,
  }
  return {'job': 'encode', 'dataset': pictures}


def latents(stage: str) -> dict[str, Any]:
  """What a stage has encoded, with its captions."""
  path = f'stage:{stage}'
  return {'name': 'latents', 'path': path, 'sample': False, 'text': WORDS}


def aligned() -> dict[str, Any]:
  """What is where in noise, before there is a flow.

  Positions and bindings are frequent, and the velocity has next to no weight.
  """
  return {
    **ALIGNED,
    'dataset': latents('encode_ordered'),
    'objective': {
      'name': 'rectified_flow',
      'times': SEEN,
      'alignment': ALIGNMENT_ALONE,
    },
    'train': {'steps': ALIGNED_STEPS, 'drop_cond': 0.1},
    'ema': {'main': {'half_life': {'steps': 100}}},
  }


def teacher() -> dict[str, Any]:
  """Flow matching with alignment, with a tenth of the prompts dropped."""
  return {
    **ALIGNED,
    'objective': {
      'name': 'rectified_flow',
      'times': LATE,
      'alignment': ALIGNMENT,
    },
    'init_from': 'stage:align',
    'train': {'steps': TEACHER_STEPS, 'drop_cond': 0.1},
    'ema': {'main': HALF_LIFE, 'early': EARLY},
    **measured({'student': MANY}),
  }


def student(name: str) -> dict[str, Any]:
  """One recipe, from the teacher's weights."""
  recipe = STUDENTS[name]
  scaled = 'network' in recipe
  scale = {'guidance': GUIDED} if scaled else {}
  few = [[*jump, {**how, **scale}] for *jump, how in JUMPS]
  both = name in ('twinflow', 'datafree')
  sweep = {'student': few + PUBLISHED if both else few}
  taught = {'teacher': MANY} if 'teacher' in recipe.get('frozen', {}) else {}
  return {
    'ema': {'main': HALF_LIFE},
    **recipe,
    'init_from': {'source': 'stage:flow', 'matching': True},
    'train': {'steps': STEPS, 'batch_size': 32, **recipe.get('train', {})},
    'optim': {'schedule': {'learning_rate': 5e-4}},
    **measured(sweep, {**taught, **sweep}),
  }


def measured(
  sweep: dict[str, Any], shown: dict[str, Any] | None = None
) -> dict[str, Any]:
  """How a stage is evaluated, and what of it is shown."""
  return {
    'evaluators': {
      'geneval': {'name': 'geneval', 'sweep': sweep, 'samples': 1000},
      'few_step': {'name': 'few_step', 'sweep': sweep, 'samples': 1000},
      'prompts': {
        'name': 'pictures',
        'sweep': shown or sweep,
        'prompts': PROMPTS,
      },
    }
  }
