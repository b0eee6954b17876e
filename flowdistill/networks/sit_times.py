"""The time embedding of SiT and MeanFlow.

cos and sin of ω τ for ω = 1 .. 10⁻⁴ without the last, and two layers:

  sit        e₁(1 − t) + (t − s) e₂(s): its time is 1 at data
  repa       e₁(t) + (t − s) e₂(s)
  mean_flow  e₁(t) + e₂(t − s), with an e₂ like e₁

Times are not scaled, so the derivative in time is bounded. In the first two
only e₁ is published, and e₂ is that of the other networks; in all of them e₂ is
zero at initialisation.

Source: Ma et al., "SiT: Exploring Flow and Diffusion-based Generative Models
with Scalable Interpolant Transformers" (2024),
https://arxiv.org/abs/2401.08740; Yu et al., "Representation Alignment for
Generation" (2024), https://arxiv.org/abs/2410.06940; Geng et al., "Mean Flows
for One-step Generative Modeling" (2025), https://arxiv.org/abs/2505.13447.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.embeddings import TimeEmbedding
from flowdistill.networks.precision import upcast

Array = jax.Array
KINDS = ('sit', 'repa', 'mean_flow')
FEATURES = 256
SPAN = 1e4  # the fastest frequency over the slowest
NORMAL = nnx.initializers.normal(0.02)


class SiTTimes(nnx.Module):
  """t, s [b] -> [b, width]; s has no effect at initialisation.

  Args:
    width: of the embedding, even.
    kind: one of `KINDS`.
    max_frequency: of e₂ but in 'mean_flow', see `fourier_features`.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self, width: int, *, kind: str, max_frequency: float, rngs: nnx.Rngs
  ):
    self.kind = kind
    self.of_t = Embedding(width, rngs=rngs)
    if kind == 'mean_flow':
      self.of_gap = Embedding(width, zero=True, rngs=rngs)
    else:
      self.of_s = TimeEmbedding(
        width, max_frequency=max_frequency, zero=True, rngs=rngs
      )

  def __call__(self, t: Array, s: Array) -> Array:
    t, s = upcast(t), upcast(s)
    if self.kind == 'mean_flow':
      return self.of_t(t) + self.of_gap(t - s)
    e = self.of_t(1 - t if self.kind == 'sit' else t)
    return e + (t - s)[:, None] * self.of_s(s)


class Embedding(nnx.Module):
  """Two layers of the features of τ [b] -> [b, width]."""

  def __init__(self, width: int, *, zero: bool = False, rngs: nnx.Rngs):
    last = nnx.initializers.zeros if zero else NORMAL
    self.first = nnx.Linear(FEATURES, width, kernel_init=NORMAL, rngs=rngs)
    self.second = nnx.Linear(width, width, kernel_init=last, rngs=rngs)

  def __call__(self, tau: Array) -> Array:
    return self.second(nnx.silu(self.first(features(tau))))


def features(tau: Array) -> Array:
  """cos and sin of ω τ, [b] -> [b, FEATURES]."""
  exponents = jnp.linspace(0, -1, FEATURES // 2, endpoint=False)
  angles = tau[:, None] * SPAN ** exponents.astype(tau.dtype)
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
