r"""Handwritten digits: a conditional U-Net on MNIST, 64 x 64, greyscale.

  python -m flowdistill.main --config configs/images/mnist.py \
    --workdir runs/mnist --config.dataset.data_dir=DATA \
    --config.evaluation.dataset.data_dir=DATA

  python -m flowdistill.main --workdir runs/mnist --job=generate \
    --sampler=rk4 --nfe=100 --label=7 --samples=16 --write=grid

MNIST is prepared once, see docs/data.md. For 128 x 128, as in the Flow Image
Generator: --config.dataset.size=128 --config.evaluation.dataset.size=128.

Time and quality: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside, choose

flow = beside(__file__, 'flow')


def get_config(arg: str = '') -> ConfigDict:
  choose(arg, {'': None})
  dataset = {'name': 'tfds', 'builder': 'mnist', 'size': 64}
  network = {'width': 32, 'ch_mult': (1, 2, 2)}
  return ConfigDict(
    flow.config(dataset, epochs=20, rate=1e-4, decay=0.999, network=network),
    sort_keys=False,
  )
