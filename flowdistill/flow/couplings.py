"""Which noise is paired with which data: `coupling(key, batch, step)`.

Source of `annealed`: Zhu, Liu, Liu, "SlimFlow: Training Smaller One-Step
Diffusion Models with Rectified Flow" (2024), https://arxiv.org/abs/2407.12718,
section 3.1.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

Array = jax.Array


class Coupling(Protocol):
  """coupling(key, batch, step) -> (x0 [b, ...], x1 [b, ...])."""

  def __call__(
    self, key: Array, batch: Mapping[str, Any], step: Array | int, /
  ) -> tuple[Array, Array]: ...


class Annealing(Protocol):
  """beta(step) -> β in [0, 1], as a rule decreasing from 1."""

  def __call__(self, step: Array | int, /) -> Array: ...


def independent(
  key: Array, batch: Mapping[str, Any], step: Array | int
) -> tuple[Array, Array]:
  """Fresh standard normal noise for every example."""
  del step
  x0 = batch['x0']
  return x0, jax.random.normal(key, x0.shape, x0.dtype)


def paired(
  key: Array, batch: Mapping[str, Any], step: Array | int
) -> tuple[Array, Array]:
  """The noise that is stored in the batch, as in reflow.

  Raises:
    ValueError: if the batch has no `x1`.
  """
  del key, step
  if 'x1' not in batch:
    raise ValueError(
      'a coupling of pairs needs batches with x1, and this one has '
      f'{sorted(batch)}; set `pairs` of the stage, or the coupling '
      "'independent'"
    )
  return batch['x0'], batch['x1']


def linear(step: Array | int, *, warmup_steps: int = 300_000) -> Array:
  """β = 1 − min(1, k / W)."""
  return 1 - jnp.minimum(1.0, step / _positive(warmup_steps))


def exponential(step: Array | int, *, warmup_steps: int = 300_000) -> Array:
  """β = exp(−k / W): never 0, and 0.37 at k = W."""
  return jnp.exp(-step / _positive(warmup_steps))


def cosine(step: Array | int, *, warmup_steps: int = 300_000) -> Array:
  """β = (1 + cos(π min(1, k / W))) / 2."""
  share = jnp.minimum(1.0, step / _positive(warmup_steps))
  return (1 + jnp.cos(jnp.pi * share)) / 2


def constant(step: Array | int, *, share: float = 0.0) -> Array:
  """β = share, whatever the step.

  Raises:
    ValueError: if `share` is outside [0, 1].
  """
  del step
  if not 0 <= share <= 1:
    raise ValueError(f'share = {share} must lie in [0, 1]')
  return jnp.asarray(share, jnp.float32)


def annealed(
  key: Array,
  batch: Mapping[str, Any],
  step: Array | int,
  *,
  beta: Annealing = cosine,
) -> tuple[Array, Array]:
  """Anneals from fresh noise to that of the pair: x1^β = √(1−β²) x1 + β x1'.

  x1' is fresh noise and β decreases from 1 (`independent`) to 0 (`paired`), so
  that a student that starts from scratch or from another network moves to the
  pairs gradually. For every β, x1^β is standard normal.

  Raises:
    ValueError: if the batch has no `x1`, or an option is out of range.
  """
  x0, x1 = paired(key, batch, step)
  share = jnp.asarray(beta(step), x1.dtype)
  fresh = jax.random.normal(key, x1.shape, x1.dtype)
  return x0, jnp.sqrt(1 - share**2) * x1 + share * fresh


COUPLINGS = {
  'independent': independent,
  'paired': paired,
  'annealed': annealed,
}
ANNEALINGS = {
  'linear': linear,
  'exponential': exponential,
  'cosine': cosine,
  'constant': constant,
}


def _positive(warmup_steps: int) -> int:
  if warmup_steps < 1:
    raise ValueError(f'warmup_steps = {warmup_steps} must be at least 1')
  return warmup_steps
