"""What the config of a data set says of its examples, without opening it."""

from flowdistill.build.data import DataRecord
from flowdistill.config.bind import Spec
from flowdistill.flow.spec import DataSpec

TFDS = {
  'cifar10': (32, 3, 10),
  'cifar100': (32, 3, 100),
  'downsampled_imagenet/32x32': (32, 3, 0),
  'downsampled_imagenet/64x64': (64, 3, 0),
  'fashion_mnist': (28, 1, 10),
  'imagenet2012': (None, 3, 1000),
  'mnist': (28, 1, 10),
}
"""Builder -> side of its pictures, channels and classes."""


def declared(dataset: Spec) -> DataRecord | None:
  """The record of a data set, of unknown length; None if it must be opened.

  Args:
    dataset: its resolved config.
  """
  side, channels, classes = dataset.get('size'), dataset.get('channels'), 0
  if dataset['name'] == 'tfds':
    builder = dataset['builder'].partition(':')[0]
    if builder not in TFDS or dataset['label'] or dataset['image']:
      return None
    own_side, own_channels, classes = TFDS[builder]
    side, channels = side or own_side, channels or own_channels
  elif dataset['name'] != 'folder' or dataset['by_class']:
    return None
  if side is None:
    return None
  classes = classes if dataset['by_class'] else 0
  return DataRecord(DataSpec.labelled((side, side, channels), classes), None)
