r"""Few-step students of FLUX.1 by Align Your Flow.

  python -m flowdistill.main --workdir runs/flux \
    --config configs/t2i/flux.py:teacher=FLUX.1-dev/transformer,rank=64

The argument is a comma-separated list: `size=`, dev (the default) or schnell;
`teacher=`, a folder of diffusers, a .safetensors of the original authors, or a
run, in place of training a network here; `rank=64`, to train LoRA of all
layers of the blocks and the new embedder alone; `target_time=midpoint`, for a
student without the new embedder, which a LoRA file can say; `latents=FOLDER`
and `captions=FOLDER`, which the encode jobs of data.md and
data/text_encoders.md have written with the space below and the text encoder
`flux`; `vae=FILE`, the weights of the autoencoder; `noise=1024`, to plan with
pictures of that side and no data; and `runlocal`.

The student is the teacher with a second embedder, e(t) + (t − s) e₂(s), and at
s = t it is the teacher at the start. FLUX.1-dev was distilled with its guidance
scale as an input, which is 3.5 here in teacher and student, so that no call is
spent on guidance. Nobody has published hyperparameters for these networks:
those below are of Align Your Flow (2025), https://arxiv.org/abs/2506.14603, for
ImageNet.

Time, memory and quality: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside, choose

published = beside(__file__, 'published')
SIZES = {'dev': {'guidance_embeds': True}, 'schnell': {}}
"""The published config.json; what they share are the defaults."""
LAYERS = (
  '*.each.*project.query',
  '*.each.*project.key',
  '*.each.*project.value',
  '*.each.*out',
  '*.each.*up',
  'double.each.*.down',
)
LEARNT = ('times.of_s.*',)
"""What the published network does not have."""


def get_config(arg: str = '') -> ConfigDict:
  given = published.given(arg)
  teacher = given.get('teacher', 'stage:flow')
  size = choose(given.get('size', ''), SIZES, default='dev')
  times = {'target_time': 'scaled_gap', 'second': 'copied'}
  learnt = LEARNT
  if published.of_one_time(given):
    times, learnt = {'target_time': published.MIDPOINT}, ()
  distil = {
    'network': times,
    **published.student(given, teacher, LAYERS, learnt),
    'objective': {'name': 'ayf_emd', 'warmup_steps': 10_000},
    'train': {'steps': 20_000, 'batch_size': 256},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-5}},
  }
  return published.config(
    given,
    {'name': 'flux', **size},
    distil,
    data=published.data(given, text=(512, 4096), pooled=768),
    space=published.space(given, scale=0.3611, shift=0.1159),
  )
