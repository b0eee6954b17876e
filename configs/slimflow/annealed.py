r"""SlimFlow's annealed reflow: a slim 2-flow from scratch.

  python -m flowdistill.main --workdir runs/slimflow \
    --config configs/slimflow/annealed.py:cifar10,15m,data_dir=DATA

In the workdir of flow.py or reflow.py, their finished 1-flow and pairs are
reused. Sizes: see road.py.

Time on GPUs or TPUs: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

Road = beside(__file__, 'road').Road


def get_config(arg: str = '') -> ConfigDict:
  return ConfigDict(
    Road(arg).config('flow', 'pairs', 'annealed'), sort_keys=False
  )
