r"""Align Your Flow on latents of ImageNet at 512 x 512: EDM2-S, adversarial.

  python -m flowdistill.main --workdir runs/ayf512 \
    --config configs/ayf/imagenet512.py:teacher=runs/edm2_s,weak=runs/edm2_xs

The argument: see stages.py; also `latents=FOLDER`, which `--job=encode` has
written, and `vae=FILE`, the weights of sd-vae-ft-mse, with the scale and shift
of EDM2. The published weights for it are edm2-img512-s-2147483-0.070 and, by
`--stage=weak` and `--to=runs/edm2_xs`, edm2-img512-xs-0134217-0.125:

  python -m flowdistill.main --config configs/ayf/imagenet512.py --job=convert \
    --stage=flow --shape=512,512,3 --classes=1000 \
    --from=edm2-img512-s-2147483-0.070.pkl --to=runs/edm2_s

Without `teacher` and `weak` both networks are trained first. FID is that to the
decoded latents, unless `reference=FILE` has the statistics of the images. The
paper's FID: 3.32 at 1 NFE and 1.70 at 4; after adversarial finetuning 1.92 and
1.64; of the guided teacher 1.34 at 126.

Time on GPUs or TPUs, and our FID: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

stages = beside(__file__, 'stages')


def get_config(arg: str = '') -> ConfigDict:
  given = stages.given(arg, 'latents', 'vae')
  ayf = stages.Ayf(
    given=given,
    steps=1_048_576,
    weak_steps=65_536,
    ema=0.070,
    weak_ema=0.125,
    noise=(-0.4, 1.0),
    gaps=(-0.8, 1.0),
    scale=2.1,
  )
  return ConfigDict(
    {
      'dataset': {'name': 'latents', 'path': given.get('latents', 'latents')},
      'space': {
        'name': 'kl',
        'path': given.get('vae', 'vae.safetensors'),
        'scaling_factor': (0.1199, 0.1082, 0.1348, 0.1524),
        'shift_factor': (5.81, 3.25, 0.12, -2.15),
        'pixel_range': (0.0, 1.0),
      },
      'network': {'name': 'edm2', 'dtype': 'bfloat16'},
      'checkpoint': {'every': {'steps': 5000}},
      'stages': ayf.stages(),
    },
    sort_keys=False,
  )
