r"""The 2-flow of SlimFlow: reflow of the 1-flow by pairs that it made.

  python -m flowdistill.main --workdir runs/slimflow \
    --config configs/slimflow/reflow.py:cifar10,data_dir=DATA

In the workdir of flow.py, its 1-flow is found again. The paper's distilled
(61.8 M parameters) has an FID of 4.85 in one step on CIFAR-10.

On GPUs or TPUs, the hours: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

Road = beside(__file__, 'road').Road


def get_config(arg: str = '') -> ConfigDict:
  return ConfigDict(
    Road(arg).config('flow', 'pairs', 'reflow'), sort_keys=False
  )
