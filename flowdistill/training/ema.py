"""Exponential moving averages of parameters.

  ema ← p + d (ema − p),  d = 0.5 ** (1 / min(half_life, ramp · step))

The half-life is constant, but early in training no longer than a share `ramp`
of what was trained so far, so that an average forgets its random start.

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, appendix F.2: a
half-life of half a million images; the ramp of 0.05 is that of its code.

Or a constant d, that a recursion κ warms up to from 0:

  κ ← κ + (1 − κ) (d − κ) / 2

Source: the code of Cheng et al., "TwinFlow" (2025),
https://arxiv.org/abs/2512.05150, where it is that of the targets' teacher.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.training.lengths import Length
from flowdistill.training.rounding import KEPT, by_chance, check_kept

Array = jax.Array
HALF_LIFE, RAMP = Length(images=500_000), 0.05


@dataclasses.dataclass(frozen=True)
class Ema:
  """One average of the parameters.

  Args:
    half_life: after as long, half of the distance to a constant is left.
    ramp: the largest half-life as a share of what was trained so far, above 0;
      None for no ramp.
    until: from there on the average stands still: an early, weaker copy of the
      network, as autoguidance asks for. None for never.
    decay: d per step in [0, 1), with its warm-up, in place of a half-life and a
      ramp; None for these.
    dtype: what it is kept in, 'float32' or 'bfloat16'; the latter is half as
      large, and is rounded by chance (see `rounding.py`).

  Raises:
    ValueError: if a value is out of range, or without effect.
  """

  half_life: Length = HALF_LIFE
  ramp: float | None = RAMP
  until: Length | None = None
  decay: float | None = None
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    check_kept(self.dtype)
    if self.half_life.to_steps(1, 1) < 1:
      raise ValueError(f'half_life is {self.half_life}; it is above 0')
    if self.ramp is not None and not 0 < self.ramp < float('inf'):
      raise ValueError(f'ramp is {self.ramp}; it is above 0, or None')
    if self.decay is None:
      return
    if not 0 <= self.decay < 1:
      raise ValueError(f'decay = {self.decay} must lie in [0, 1)')
    if (self.half_life, self.ramp) != (HALF_LIFE, RAMP):
      raise ValueError(
        f'decay = {self.decay} must be None beside a half_life or a ramp of '
        'your own: it takes their place'
      )

  def warm(self, steps: int) -> np.ndarray | None:
    """The first decays of a run of so many steps, None with a half-life."""
    return None if self.decay is None else warm_decays(self.decay, steps)


def decay(
  step: Array | int, half_life_steps: float, ramp: float | None
) -> Array:
  """d, the share of the old average that is kept, float32 in [0, 1).

  Args:
    step: updates made before this one: 0 at the first.
    half_life_steps: 0 means no average at all, d = 0.
    ramp: None for none; with one, d = 0 at the first update.
  """
  half_life = jnp.asarray(half_life_steps, jnp.float32)
  if ramp is not None:
    half_life = jnp.minimum(half_life, ramp * jnp.asarray(step, jnp.float32))
  return 0.5 ** (1 / jnp.maximum(half_life, 1e-8))


@functools.cache
def warm_decays(decay: float, steps: int) -> np.ndarray:
  """κ_0 = 0, κ_1, ... float32, for as many steps, or until κ is d.

  The recursion has no closed form, and κ no place in a checkpoint: so it is a
  table. It ends after some 30 / (1 − d) steps, 120 kB for d = 0.999.
  """
  k, warm = 0.0, [0.0]
  while len(warm) < steps and decay - k > 1e-8:
    k += (1 - k) * (decay - k) / 2
    warm.append(k)
  table = np.array(warm, np.float32)
  table.flags.writeable = False
  return table


def init_ema(params: Any, dtype: str = 'float32') -> Any:
  """A copy of a tree of parameters, in buffers of its own."""
  return jax.tree.map(lambda p: jnp.array(p, KEPT[dtype]), params)


def advance(
  step: Array,
  ema: Any,
  params: Any,
  *,
  half_life: float,
  ramp: float | None,
  until: int | None,
  warm: np.ndarray | None = None,
) -> Any:
  """The average after the step that comes after `step` others.

  Args:
    step: updates made before this one.
    ema: the average so far.
    params: after this step.
    half_life: in steps, see `decay`.
    ramp: see `decay`.
    until: from this step on `ema` stays as it is, to the byte.
    warm: the decays of the first steps, of which the last holds for all that
      follow, in place of a half-life; see `warm_decays`.
  """
  d = decay(step, half_life, ramp)
  if warm is not None:
    d = jnp.asarray(warm)[jnp.minimum(step, len(warm) - 1)]
  new = update(ema, params, d, jax.random.fold_in(jax.random.key(0), step))
  if until is None:
    return new
  return jax.tree.map(lambda a, b: jnp.where(step < until, a, b), new, ema)


def update(
  ema: Any, params: Any, decay: Array | float, key: Array | None = None
) -> Any:
  """p + d (ema − p): exactly the parameters at d = 0, and at a fixed point.

  With a key, an average in bfloat16 is rounded by chance, not to the nearest.
  """
  leaves, tree = jax.tree.flatten(ema)
  keys = [None] * len(leaves)
  if key is not None:
    keys = [jax.random.fold_in(key, i) for i in range(len(leaves))]
  new = [
    _moved(e, p, decay, own)
    for e, p, own in zip(leaves, jax.tree.leaves(params), keys, strict=True)
  ]
  return jax.tree.unflatten(tree, new)


def _moved(
  e: Array, p: Array, decay: Array | float, key: Array | None
) -> Array:
  wide = e.astype(jnp.promote_types(e.dtype, jnp.float32))
  new = p + decay * (wide - p)
  if key is None or e.dtype != jnp.bfloat16:
    return new.astype(e.dtype)
  return by_chance(new, key)
