r"""Align Your Flow on CIFAR-10: EDM's DDPM++, autoguided, then adversarial.

  python -m flowdistill.main --workdir runs/ayf_cifar10 \
    --config configs/ayf/cifar10.py:teacher=runs/edm

The argument: see stages.py; also `data_dir=PATH` of the prepared data set. The
published weights for it are edm-cifar10-32x32-cond-vp:

  python -m flowdistill.main --config configs/ayf/cifar10.py --job=convert \
    --stage=flow --from=edm-cifar10-32x32-cond-vp.pkl --to=runs/edm

Without `teacher` it is trained first. No weak network is published, so that
always is. The paper has no CIFAR-10: λ, the lengths and the weak network are
ours, the noise levels of the teachers are EDM's. All networks embed an
augmentation, as the published one does; images here have none.

Time on GPUs or TPUs, and FID: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

stages = beside(__file__, 'stages')


def get_config(arg: str = '') -> ConfigDict:
  given = stages.given(arg, 'data_dir')
  ayf = stages.Ayf(
    given=given,
    network={'augment_dim': 9},
    weak_network={'nf': 64, 'res_blocks': 2},
    noise_embedding='times.*',
    batch=512,
    rate=1e-3,
    steps=390_625,
    weak_steps=48_828,
    ema=0.05,
    weak_ema=0.10,
    noise=(-1.2, 1.2),
    gaps=(-0.6, 1.6),
    scale=1.5,
  )
  return ConfigDict(
    {
      'dataset': {
        'name': 'tfds',
        'builder': 'cifar10',
        'data_dir': given.get('data_dir', ''),
      },
      'train': {'flip': True},
      'network': {'name': 'edm_ncsnpp'},
      'checkpoint': {'every': {'steps': 5000}},
      'stages': ayf.stages(),
    },
    sort_keys=False,
  )
