r"""Align Your Flow on latents of ImageNet at 256 x 256, from SiT-XL/2.

  python -m flowdistill.main --workdir runs/ayf256 \
    --config configs/ayf/imagenet256.py:teacher=runs/sit_xl

The argument is a comma-separated list: `teacher=RUN`, which `--job=convert`
made of the published weights, in place of training SiT here; `weak=RUN`,
another SiT for autoguidance; `latents=FOLDER`, which `--job=encode` has
written; `vae=FILE`, the weights of sd-vae-ft-mse; `inception=FILE` and
`reference=FILE`, see stages.py; and `runlocal`.

  python -m flowdistill.main --config configs/ayf/imagenet256.py --job=convert \
    --stage=flow --shape=256,256,3 --classes=1000 \
    --from=SiT-XL-2-256x256.pt --to=runs/sit_xl

Without `weak` the teacher is guided by its null label, with λ ~ U[1, 3] as an
input of the student. No paper does this; the hyperparameters of the student are
those of imagenet512.py. FID of SiT-XL/2 in its paper, by 250 steps of an SDE
with guidance: 2.06.

Time on GPUs or TPUs, and our FID: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

stages = beside(__file__, 'stages')


def get_config(arg: str = '') -> ConfigDict:
  given = stages.given(arg, 'latents', 'vae')
  teacher = given.get('teacher', 'stage:flow')
  weak = {'weak': given['weak']} if 'weak' in given else {}
  flow = {
    'objective': {'name': 'rectified_flow'},
    'train': {'steps': 7_000_000, 'batch_size': 256, 'drop_cond': 0.1},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-4}},
    'ema': {'main': {'decay': 0.9999}},
  }
  distil = {
    'network': {'scalars': ('guidance',)},
    'init_from': {'source': teacher, 'matching': True},
    'frozen': {'teacher': teacher, **weak},
    'objective': {
      'name': 'ayf_emd',
      'times': {'name': 'interval', 'mean': -0.8, 'std': 1.0},
      'guidance': stages.SCALES,
      'against': 'weak' if weak else 'null',
      'warmup_steps': 10_000,
    },
    'train': {'steps': 50_000, 'batch_size': stages.BATCH},
    'optim': stages.adam(1e-4),
    'ema': {'main': {'sigma_rel': 0.05}},
    **stages.measured(given, scale=1.5),
  }
  both = {'flow': flow, 'distil': distil}
  if 'teacher' in given:
    del both['flow']
  return ConfigDict(
    {
      'dataset': {'name': 'latents', 'path': given.get('latents', 'latents')},
      'space': {'name': 'kl', 'path': given.get('vae', 'vae.safetensors')},
      'network': {
        'name': 'sit',
        'size': 'XL',
        'variance': True,
        'dtype': 'bfloat16',
      },
      'checkpoint': {'every': {'steps': 5000}},
      'stages': both,
    },
    sort_keys=False,
  )
