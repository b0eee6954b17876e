"""Attention in one kernel of cuDNN, which has a gradient and refuses jvp.

It is faster, and linear in memory, for networks that are only sampled, frozen,
or trained by an objective without jvp. jax.nn.dot_product_attention says which
sizes cuDNN takes. On devices that are no GPUs attention is blockwise: their
results are equal, and the speed is not.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from flowdistill.networks.blockwise_attention import attend_in_blocks
from flowdistill.networks.grouped_heads import grouped

Array = jax.Array
Library = Literal['cudnn', 'xla']
GPU = 'gpu'


def attend_fused(
  q: Array, k: Array, v: Array, mask: Array | None = None
) -> Array:
  """As `attention.attend`; on a GPU of numbers of 16 bits."""
  if jax.default_backend() != GPU:
    return grouped(attend_in_blocks)(q, k, v, mask)
  return attend_by_library(q, k, v, mask, implementation='cudnn')


def attend_by_library(
  q: Array, k: Array, v: Array, mask: Array | None, *, implementation: Library
) -> Array:
  """As `attention.attend`, by jax.nn.dot_product_attention.

  `implementation` is 'cudnn', or 'xla', which is not fused.
  """
  if mask is not None:  # which cuDNN adds to every logit
    shape = (*mask.shape[:-2], q.shape[-2], k.shape[-2])
    mask = jnp.broadcast_to(mask, shape)
  if q.ndim == 3:  # of one head
    q, k, v = (x[:, None] for x in (q, k, v))
    mask = mask[:, None] if mask is not None and mask.ndim == 3 else mask
    return attend_by_library(q, k, v, mask, implementation=implementation)[:, 0]
  heads_last = [x.swapaxes(1, 2) for x in (q, k, v)]
  out = jax.nn.dot_product_attention(
    *heads_last, mask=mask, implementation=implementation
  )
  return out.swapaxes(1, 2)
