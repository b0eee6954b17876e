r"""Few-step students of Stable Diffusion 3 and 3.5 by Align Your Flow.

  python -m flowdistill.main --config configs/t2i/sd3.py --job=convert \
    --from=sd3.5_medium.safetensors --to=runs/sd3_teacher

  python -m flowdistill.main --workdir runs/sd3 \
    --config configs/t2i/sd3.py:teacher=runs/sd3_teacher

The argument is a comma-separated list: `size=`, one of medium, medium_3_5 (the
default) and large_3_5; `teacher=RUN`, which `--job=convert` has made of the
published weights, in files of diffusers or of Stability AI, in place of
training a network here; `latents=FOLDER` and `captions=FOLDER`, which the
encode jobs of data.md and data/text_encoders.md have written with the space
below and the text encoder `sd3`; `vae=FILE`, the weights of the autoencoder;
and `runlocal`.

The student is the teacher with a second embedder, e(t) + (t − s) e₂(s), and at
s = t it is the teacher at the start. Guidance λ ~ U[1, 5] is an input. Nobody
has published hyperparameters for these networks: those below are of Align Your
Flow (2025), https://arxiv.org/abs/2506.14603, for ImageNet, with the shift of
the times of Stable Diffusion 3 (2024), https://arxiv.org/abs/2403.03206.

Time, memory and quality: not yet measured.
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import ConfigError, choose, suggest

RMS = {'qk_norm': 'rms_norm'}
SIZES: dict[str, dict[str, Any]] = {
  'medium': {
    'num_layers': 24,
    'num_attention_heads': 24,
    'pos_embed_max_size': 192,
  },
  'medium_3_5': {
    'num_layers': 24,
    'num_attention_heads': 24,
    'pos_embed_max_size': 384,
    'dual_attention_layers': tuple(range(13)),
    **RMS,
  },
  'large_3_5': {
    'num_layers': 38,
    'num_attention_heads': 38,
    'pos_embed_max_size': 192,
    **RMS,
  },
}
"""The published config.json; what they share are the defaults."""
KNOWN = ('size', 'teacher', 'latents', 'captions', 'vae')
SPACE = {
  'name': 'kl',
  'latent_channels': 16,
  'use_quant_conv': False,
  'use_post_quant_conv': False,
  'scaling_factor': 1.5305,
  'shift_factor': 0.0609,
}


def get_config(arg: str = '') -> ConfigDict:
  given = words(arg)
  teacher = given.get('teacher', 'stage:flow')
  size = choose(given.get('size', ''), SIZES, default='medium_3_5')
  flow = {
    'objective': {'name': 'rectified_flow', 'times': 'logit_normal'},
    'train': {'steps': 500_000, 'batch_size': 1024, 'drop_cond': 0.1},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-4}},
  }
  distil = {
    'network': {
      'target_time': 'scaled_gap',
      'second': 'copied',
      'scalars': ('guidance',),
    },
    'init_from': {'source': teacher, 'matching': True},
    'frozen': {'teacher': {'source': teacher, 'dtype': 'bfloat16'}},
    'objective': {
      'name': 'ayf_emd',
      'guidance': {'name': 'uniform', 'low': 1.0, 'high': 5.0},
      'against': 'null',
      'warmup_steps': 10_000,
    },
    'train': {'steps': 20_000, 'batch_size': 256},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-5}},
  }
  text = {'name': 'encoded', 'path': given.get('captions', 'captions')}
  latents = {'name': 'latents', 'path': given.get('latents', 'latents')}
  return ConfigDict(
    {
      'dataset': {**latents, 'text': text},
      'space': {**SPACE, 'path': given.get('vae', 'vae.safetensors')},
      'network': {
        'name': 'sd3', **size, 'dtype': 'bfloat16', 'remat': 'full',
      },
      'checkpoint': {'every': {'steps': 1000}},
      'evaluators': {},
      'stages': {'distil': distil} if 'teacher' in given else {
        'flow': flow, 'distil': distil,
      },
    },
    sort_keys=False,
  )  # fmt: skip


def words(arg: str) -> dict[str, str]:
  """The words NAME=VALUE of an argument.

  Raises:
    ConfigError: for a word that is unknown.
  """
  pairs = [word.partition('=') for word in filter(None, arg.split(','))]
  for name, equals, _ in pairs:
    if name not in KNOWN or not equals:
      names = [f'{known}=' for known in KNOWN]
      raise ConfigError(f'config argument {name!r}: {suggest(name, names)}')
  return {name: value for name, _, value in pairs}
