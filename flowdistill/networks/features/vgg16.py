"""VGG16, whose second hidden layer is the feature of precision and recall.

Its convolutions are those that LPIPS uses (`networks/lpips.py`).

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks" (2014),
https://arxiv.org/abs/1409.1556, table 1 (D); as a metric: Kynkäänniemi et al.,
"Improved Precision and Recall Metric for Assessing Generative Models" (2019),
https://arxiv.org/abs/1904.06991.
"""

from typing import ClassVar

import jax
from flax import nnx

from flowdistill.networks.features.transformer import standardise
from flowdistill.networks.lpips import make_convolutions, taps

Array = jax.Array
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
WIDTH = 4096


class VGG16(nnx.Module):
  """VGG16 up to its second hidden layer.

  Args:
    rngs: for the initial parameters, which are meaningless: load those of a
      file (`convert/vgg16.py`).
  """

  signature: ClassVar[str] = 'features'

  def __init__(self, *, rngs: nnx.Rngs):
    self.convs = make_convolutions(rngs)
    # The first hidden layer sees 7 x 7 pixels, as one convolution.
    self.fc1 = nnx.Conv(512, WIDTH, (7, 7), padding='VALID', rngs=rngs)
    self.fc2 = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

  def __call__(self, x: Array) -> dict[str, Array]:
    """The features of images.

    Args:
      x: images [b, 224, 224, 3] in [0, 255].

    Returns:
      fc2_relu: [b, 4096].
      fc2: the same before the ReLU.
    """
    *_, h = taps(self.convs, standardise(x, MEAN, STD))
    h = nnx.max_pool(h, (2, 2), strides=(2, 2))
    h = self.fc2(nnx.relu(self.fc1(h))[:, 0, 0])
    return {'fc2_relu': nnx.relu(h), 'fc2': h}
