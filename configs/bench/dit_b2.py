r"""The step of AYF-EMD with DiT-B/2 on 32 x 32 x 4, timed beside PyTorch's.

  python -m flowdistill.main --config configs/bench/dit_b2.py --job=bench \
    --against=torch

The data are noise, and so are the weights of all networks: nothing is trained.
The figures are in docs/performance.md; training it is not yet measured.

The network: Peebles & Xie, "Scalable Diffusion Models with Transformers"
(2022), https://arxiv.org/abs/2212.09748, table 1, for the latents of ImageNet
at 256 x 256.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  return ConfigDict(
    {
      'dataset': {'name': 'noise', 'shape': (32, 32, 4)},
      'network': {
        'name': 'dit',
        'patch': 2,
        'width': 768,
        'depth': 12,
        'heads': 12,
      },
      'train': {'steps': 100, 'batch_size': 1},
      'optim': {
        'optimiser': 'adam',
        'schedule': {'name': 'constant', 'learning_rate': 1e-4},
      },
      'ema': {'main': {'decay': 0.999}},
      'stages': {
        'flow': {'objective': 'rectified_flow'},
        'distil': {
          'init_from': 'stage:flow',
          'frozen': {'teacher': 'stage:flow'},
          'objective': 'ayf_emd',
        },
      },
    },
    sort_keys=False,
  )
