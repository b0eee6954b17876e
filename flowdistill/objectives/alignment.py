"""REPA: a hidden layer is aligned with features of the clean example.

Source: Yu et al., "Representation Alignment for Generation: Training Diffusion
Transformers Is Easier Than You Think" (2024), https://arxiv.org/abs/2410.06940,
whose features are those of DINOv2; the projection loss of its code, `SILoss` in
https://github.com/sihyun-yu/REPA/blob/main/loss.py, is minus this cosine.
"""

import jax
import jax.numpy as jnp

from flowdistill.flow.losses import mean
from flowdistill.objectives.roles import MissingRole, Roles

Array = jax.Array
SOURCE = "'shapes_kl', for the latents of that space"
LEAST = 1e-12  # squared norm of features


def features_of(nets: Roles, x0: Array) -> Array:
  """The features of examples x0 [b, ...], as constants, [b, h, w, d].

  Raises:
    MissingRole: if nets has no `features`.
  """
  if 'features' not in nets:
    raise MissingRole('features', nets, SOURCE)
  return jax.lax.stop_gradient(nets.features(x0))


def similarity(h: Array, features: Array) -> Array:
  """The cosine between two sets of features [b, h, w, d], the mean over places.

  Returns:
    [b], in [-1, 1].

  Raises:
    ValueError: if they have other shapes.
  """
  if h.shape != features.shape:
    raise ValueError(
      f'the features of network.features = {h.shape[-1]} have the shape '
      f'{list(h.shape[1:])}, and must have that of frozen.features, '
      f'{list(features.shape[1:])}'
    )
  return mean(jnp.sum(unit(h) * unit(features), axis=-1))


def unit(x: Array) -> Array:
  """x over its norm along the last axis, finite where it is zero."""
  squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(squared, LEAST))
