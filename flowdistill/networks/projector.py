"""From a hidden layer of a network to features of another one.

Source: Yu et al., "Representation Alignment for Generation: Training Diffusion
Transformers Is Easier Than You Think" (2024), https://arxiv.org/abs/2410.06940,
and its code, `build_mlp` in
https://github.com/sihyun-yu/REPA/blob/main/models/sit.py, where the layers
between have 2 048 channels. In a U-Net: Tian et al., "U-REPA: Aligning
Diffusion U-Nets to ViTs" (2025), https://arxiv.org/abs/2503.18414, which aligns
the middle and enlarges its features; here the hidden layer is behind that.
"""

import itertools

import jax
from flax import nnx

from flowdistill.networks.ranges import check_sizes

Array = jax.Array
TIMES = 2  # width of the layers between, over the input


class Projector(nnx.Module):
  """A perceptron of three layers, at each place by itself.

  Args:
    width: of the hidden layer.
    features: of what is answered.
    rngs: for the initial parameters alone.
  """

  def __init__(self, width: int, features: int, *, rngs: nnx.Rngs):
    check_sizes(features=features)
    sizes = (width, TIMES * width, TIMES * width, features)
    self.layers = nnx.List(
      nnx.Linear(n, m, rngs=rngs) for n, m in itertools.pairwise(sizes)
    )

  def __call__(self, h: Array) -> Array:
    """h [..., width] -> [..., features]."""
    first, *rest = self.layers
    h = first(h)
    for layer in rest:
      h = layer(nnx.silu(h))
    return h


def make_projector(
  width: int, features: int, *, rngs: nnx.Rngs
) -> Projector | None:
  """The projector of a network, None for `features` = 0."""
  return Projector(width, features, rngs=rngs) if features else None


def projected(projector: Projector | None, hidden: Array) -> Array:
  """hidden [..., width] -> [..., features].

  Raises:
    ValueError: if there is no projector.
  """
  if projector is None:
    raise ValueError(
      'network.features = 0 must be the width of the features with which the '
      'network is aligned'
    )
  return projector(hidden)
