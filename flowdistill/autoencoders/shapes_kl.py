"""The autoencoder of small, flat pictures that ships with the package.

It is a KL autoencoder, trained on the captioned shapes of the training split by
`python -m flowdistill.autoencoders.train_shapes_kl`. Latents of 8 x 8 x 4 stand
for a picture of 32 x 32 x 3, a twelfth of the numbers, and have variance 1.
"""

import pathlib

from flowdistill.autoencoders.kl import KLConfig

WEIGHTS = pathlib.Path(__file__).with_name('shapes_kl.npz')
SIZES = KLConfig(
  latent_channels=4,
  block_out_channels=(16, 32, 48),
  layers_per_block=1,
  norm_num_groups=8,
  mid_block_add_attention=False,
  use_quant_conv=False,
  use_post_quant_conv=False,
)
