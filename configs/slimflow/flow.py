r"""The 1-flow of SlimFlow, on CIFAR-10, FFHQ-64 or ImageNet-64.

  python -m flowdistill.main --workdir runs/slimflow \
    --config configs/slimflow/flow.py:cifar10,data_dir=DATA

The argument: see road.py. The paper's 1-flow on CIFAR-10: FID 2.58 at 127 NFE
(RK45).

Time on GPUs or TPUs, and our FID: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

Road = beside(__file__, 'road').Road


def get_config(arg: str = '') -> ConfigDict:
  return ConfigDict(Road(arg).config('flow'), sort_keys=False)
