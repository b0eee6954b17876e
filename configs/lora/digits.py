r"""A few-step student as low-rank factors of its teacher, on the digits.

  python -m flowdistill.main --config configs/lora/digits.py \
    --workdir runs/lora_digits

Trains the teacher of the quickstart, and distils it with AYF-EMD, autoguided:
of the student only LoRA factors of the blocks and the embedding of the target
time learn, beside the teacher's weights, which are one frozen tree for both.
Take out the line `lora` to train all weights.
docs/lora.md has the options.

The argument is empty or `bfloat16`, which keeps the shared weights, and the
moments of the optimiser, in half the bytes.

Its time and its figures: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose

BLOCKS = ('blocks.*.qkv', 'blocks.*.out', 'blocks.*.up', 'blocks.*.down')
LORA = {'rank': 8, 'layers': BLOCKS, 'full': ('times.of_s.*',)}
HALF = {'bfloat16': 'bfloat16'}


def get_config(arg: str = '') -> ConfigDict:
  dtype = choose(arg, {'': 'float32', **HALF})
  teacher = {'source': 'stage:flow', 'dtype': dtype}
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
    'init_from': teacher,
    'lora': LORA,
    'frozen': {
      'teacher': teacher,
      'weak': {'source': 'stage:flow', 'weights': 'early', 'dtype': dtype},
    },
    'objective': {
      'name': 'ayf_emd',
      'times': {'name': 'sorted_uniform'},
      'guidance': {'name': 'fixed', 'scale': 1.5},
      'warmup_steps': 1000,
    },
    'train': {'steps': 1400},
    'optim': {
      'schedule': {'name': 'cosine', 'learning_rate': 2e-3},
      'state_dtype': dtype,
    },
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
