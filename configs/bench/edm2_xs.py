r"""The step of AYF-EMD with EDM2-XS at 64 x 64, timed beside PyTorch's.

  python -m flowdistill.main --config configs/bench/edm2_xs.py --job=bench \
    --against=torch

The data are noise, and so are the weights of all networks: nothing is trained.
The figures are in docs/performance.md; training it is not yet measured.

The network: Karras et al., "Analyzing and Improving the Training Dynamics of
Diffusion Models" (2023), https://arxiv.org/abs/2312.02696, of ImageNet.
"""

from ml_collections import ConfigDict

from flowdistill.config import choose


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  return ConfigDict(
    {
      'dataset': {'name': 'noise', 'shape': (64, 64, 3)},
      'network': {'name': 'edm2', 'width': 128, 'time': 'linear'},
      'train': {'steps': 100, 'batch_size': 1},
      'optim': {
        'optimiser': {'name': 'adam', 'b1': 0.9, 'b2': 0.99, 'eps': 1e-11},
        'schedule': {'name': 'constant', 'learning_rate': 1e-4},
      },
      'ema': {'main': {'sigma_rel': 0.05}},
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
