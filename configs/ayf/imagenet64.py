r"""Align Your Flow on ImageNet at 64 x 64: autoguided, then adversarial.

  python -m flowdistill.main --workdir runs/ayf64 \
    --config configs/ayf/imagenet64.py:teacher=runs/edm2_s,weak=runs/edm2_xs

The argument: see stages.py; also `data_dir=PATH` of the prepared data set. The
published weights for it are edm2-img64-s-1073741-0.045 and, by `--stage=weak`
and `--to=runs/edm2_xs`, edm2-img64-xs-0134217-0.110:

  python -m flowdistill.main --config configs/ayf/imagenet64.py --job=convert \
    --stage=flow --from=edm2-img64-s-1073741-0.045.pkl --to=runs/edm2_s

Without `teacher` and `weak` both networks are trained first. The paper's FID:
2.98 at 1 NFE and 1.25 at 2; of the guided teacher 1.01 at 126.

Time on GPUs or TPUs, and our FID: not yet measured; docs/scaling.md has what
`--job=plan` calculates, and that it does not fit into 80 GB as it is.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

stages = beside(__file__, 'stages')


def get_config(arg: str = '') -> ConfigDict:
  given = stages.given(arg, 'data_dir')
  ayf = stages.Ayf(
    given=given,
    steps=524_288,
    weak_steps=65_536,
    ema=0.045,
    weak_ema=0.110,
    noise=(-0.8, 1.6),
    gaps=(-0.6, 1.6),
    scale=1.7,
  )
  return ConfigDict(
    {
      'dataset': {
        'name': 'tfds',
        'builder': 'imagenet2012',
        'size': 64,
        'resize': 'adm',
        'data_dir': given.get('data_dir', ''),
      },
      'network': {'name': 'edm2', 'dtype': 'bfloat16'},
      'checkpoint': {'every': {'steps': 5000}},
      'stages': ayf.stages(),
    },
    sort_keys=False,
  )
