r"""Faces: a U-Net on CelebA, 128 x 128.

  python -m flowdistill.main --workdir runs/celeba \
    --config configs/images/celeba.py:img_align_celeba

  python -m flowdistill.main --workdir runs/celeba --job=generate \
    --sampler=rk4 --nfe=2000 --samples=4 --write=grid

The argument is a folder, a .zip or a .tar with the pictures; without one, the
data set is celeb_a of TFDS, found by --config.dataset.data_dir and
--config.evaluation.dataset.data_dir. The central square of 178 pixels is scaled
to 128.

Time and quality: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import beside

flow = beside(__file__, 'flow')


def get_config(arg: str = '') -> ConfigDict:
  dataset = {'name': 'tfds', 'builder': 'celeb_a', 'size': 128}
  if arg:
    dataset = {'name': 'folder', 'path': arg, 'size': 128}
  network = {'width': 64, 'ch_mult': (1, 2, 2, 4), 'dropout': 0.1}
  return ConfigDict(
    flow.config(dataset, epochs=1000, rate=1e-5, decay=0.999, network=network),
    sort_keys=False,
  )
