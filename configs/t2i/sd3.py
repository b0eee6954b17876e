r"""Few-step students of Stable Diffusion 3 and 3.5 by Align Your Flow.

  python -m flowdistill.main --workdir runs/sd3 \
    --config configs/t2i/sd3.py:teacher=stable-diffusion-3.5-medium/transformer

The argument is a comma-separated list: `size=`, one of medium, medium_3_5 (the
default) and large_3_5; `teacher=`, a folder of diffusers, a .safetensors
of the original authors, or a run, in place of training a network here;
`rank=64`, to train LoRA of the attention and the new embedders alone;
`target_time=midpoint`, for a student without new embedders, which a LoRA file
can say, with λ = 4.5 and not as an input; `latents=FOLDER` and
`captions=FOLDER`, which the encode jobs of data.md and data/text_encoders.md
have written with the space below and the text encoder `sd3`; `vae=FILE`, the
weights of the autoencoder; `noise=1024`, to plan with pictures of that side and
no data; and `runlocal`.

  python -m flowdistill.main --config configs/t2i/sd3.py --job=convert \
    --from=sd3.5_medium.safetensors --to=runs/sd3_teacher

The student is the teacher with a second embedder, e(t) + (t − s) e₂(s), and at
s = t it is the teacher at the start. Guidance λ ~ U[1, 5] is an input. Nobody
has published hyperparameters for these networks: those below are of Align Your
Flow (2025), https://arxiv.org/abs/2506.14603, for ImageNet, with the shift of
the times of Stable Diffusion 3 (2024), https://arxiv.org/abs/2403.03206.

Time, memory and quality: not yet measured.
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import beside, choose

published = beside(__file__, 'published')

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
LAYERS = (
  'blocks_*.project.query',
  'blocks_*.project.key',
  'blocks_*.project.value',
  'blocks_*.out',
)
LEARNT = ('times.of_s.*', 'scalars.*')
"""What the published network does not have."""
FIXED = 4.5  # λ of a student that cannot be given one


def get_config(arg: str = '') -> ConfigDict:
  given = published.given(arg)
  teacher = given.get('teacher', 'stage:flow')
  size = choose(given.get('size', ''), SIZES, default='medium_3_5')
  times = {
    'target_time': 'scaled_gap',
    'second': 'copied',
    'scalars': ('guidance',),
  }
  learnt, guidance = LEARNT, {'name': 'uniform', 'low': 1.0, 'high': 5.0}
  if published.of_one_time(given):
    times, learnt = {'target_time': published.MIDPOINT}, ()
    guidance = {'name': 'fixed', 'scale': FIXED}
  distil = {
    'network': times,
    **published.student(given, teacher, LAYERS, learnt),
    'objective': {
      'name': 'ayf_emd',
      'guidance': guidance,
      'against': 'null',
      'warmup_steps': 10_000,
    },
    'train': {'steps': 20_000, 'batch_size': 256},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-5}},
  }
  return published.config(
    given,
    {'name': 'sd3', **size},
    distil,
    data=published.data(given, text=(333, 4096), pooled=2048),
    space=published.space(given, scale=1.5305, shift=0.0609),
  )
