r"""All of SlimFlow: from scratch to a slim network that samples in one step.

  python -m flowdistill.main --workdir runs/slimflow \
    --config configs/slimflow/distil.py:cifar10,15m,data_dir=DATA,lpips=FILE

In the workdir of annealed.py, its finished stages are reused. Without `lpips`
the distance is l2. The paper's one-step FID on CIFAR-10, from its 1-flow: 5.81
with 15.7 M parameters; on ImageNet-64: 12.34 with 80.7 M.

Time on GPUs or TPUs, and our FID: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

Road = beside(__file__, 'road').Road


def get_config(arg: str = '') -> ConfigDict:
  return ConfigDict(
    Road(arg).config('flow', 'pairs', 'annealed', 'slim_pairs', 'distil'),
    sort_keys=False,
  )
