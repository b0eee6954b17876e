"""Exponential moving averages (EMAs) of parameters, as entries of a table.

  ema ← p + d (ema − p)

A kind of EMA says what the decay d of each update is. It is a function of
(total_steps, to_steps) and options, as a schedule is, and returns an `Ema`.
Both count updates of the role whose parameters are averaged.

Nothing here makes an array, so that a config can be checked before any device
is touched.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.training.ema_profiles import gamma_of
from flowdistill.training.ema_warmups import Warmup, no_warmup, recursive
from flowdistill.training.lengths import Length
from flowdistill.training.optim import ToSteps
from flowdistill.training.rounding import (
  DTYPES,
  check_dtype,
  round_stochastically,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Ema:
  """One EMA of the parameters of a role.

  Attributes:
    decay: number of updates made before -> d of this update, in [0, 1).
    until: number of updates after which the EMA weights are frozen; None
      disables it.
    dtype: of the EMA weights, a name in `DTYPES`; bfloat16 ones are rounded
      stochastically.
    sigma_rel: the relative width of its profile, if that is a power function
      (see `ema_profiles.py`); otherwise None.

  Raises:
    ValueError: if there is no such dtype.
  """

  decay: Callable[[Array], Array]
  until: int | None = None
  dtype: str = 'float32'
  sigma_rel: float | None = None

  def __post_init__(self) -> None:
    check_dtype(self.dtype)

  def init(self, params: Any) -> Any:
    """The EMA weights before the first update, a copy of `params`."""
    return init_ema(params, self.dtype)

  def advance(self, step: Array, ema: Any, params: Any) -> Any:
    """The EMA weights after an update.

    Args:
      step: updates of the role that were made before this one.
      ema: the EMA weights so far.
      params: after this update.
    """
    key = jax.random.fold_in(jax.random.key(0), step)
    new = update(ema, params, self.decay(step), key)
    if self.until is None:
      return new
    going = step < self.until
    return jax.tree.map(lambda a, b: jnp.where(going, a, b), new, ema)


def half_life(
  total_steps: int,
  to_steps: ToSteps,
  *,
  half_life: Length = Length(images=500_000),
  ramp: float | None = 0.05,
  until: Length | None = None,
  dtype: str = 'float32',
) -> Ema:
  """d = 0.5 ** (1 / min(half_life, ramp · step)).

  The half-life is constant, but early in training at most a share `ramp` of the
  updates made so far, so that the EMA forgets the random initialisation.

  Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
  Generative Models" (2022), https://arxiv.org/abs/2206.00364, appendix F.2: a
  half-life of half a million images; the ramp of 0.05 is that of its code.

  Args:
    total_steps: updates of the whole run.
    to_steps: turns a length into updates.
    half_life: the time in which the distance to constant parameters halves.
    ramp: the largest half-life as a share of the updates made so far, above 0;
      None disables it.
    until: when the EMA weights are frozen, which leaves an early, weaker copy
      of the network, as autoguidance needs it; None disables it.
    dtype: of the EMA weights, 'float32' or 'bfloat16'. The latter takes half
      the memory and is rounded stochastically (see `rounding.py`).

  Raises:
    ValueError: if a value is out of range.
  """
  del total_steps
  if half_life.to_steps(1, 1) < 1:
    raise ValueError(f'half_life = {half_life} must be above 0')
  if ramp is not None and not 0 < ramp < float('inf'):
    raise ValueError(f'ramp = {ramp} must be above 0, or None')
  decays = functools.partial(halving, half_life=to_steps(half_life), ramp=ramp)
  return Ema(decays, until and to_steps(until), dtype)


def decay(
  total_steps: int,
  to_steps: ToSteps,
  *,
  decay: float = 0.999,
  warmup: Warmup | None = recursive,
  until: Length | None = None,
  dtype: str = 'float32',
) -> Ema:
  """A constant d, to which `warmup` leads from 0.

  Args:
    total_steps: updates of the whole run.
    to_steps: turns a length into updates.
    decay: d of an update, in [0, 1).
    warmup: how the first decays grow, by name with its options, from
      `ema_warmups.py`; None has d from the first update on.
    until: see `half_life`.
    dtype: see `half_life`.

  Raises:
    ValueError: if a value is out of range.
  """
  if not 0 <= decay < 1:
    raise ValueError(f'decay = {decay} must lie in [0, 1)')
  decays = functools.partial(no_warmup, decay=decay)
  if warmup is not None:
    decays = warmup(decay, total_steps)
  return Ema(decays, until and to_steps(until), dtype)


def power(
  total_steps: int,
  to_steps: ToSteps,
  *,
  sigma_rel: float = 0.1,
  dtype: str = 'float32',
) -> Ema:
  """d = (1 − 1 / n)^(γ + 1) of update n = 1, 2, ...

  Update k has the weight (k^(γ + 1) − (k − 1)^(γ + 1)) / n^(γ + 1). The length
  of the EMA is a constant share of training. From snapshots of two such EMAs
  that of any length is reconstructed (see `ema_profiles.py`).

  Source: Karras et al., "Analyzing and Improving the Training Dynamics of
  Diffusion Models" (EDM2, 2024), https://arxiv.org/abs/2312.02696, section 3.1;
  its snapshots are of 0.05 and 0.10.

  Args:
    total_steps: unused.
    to_steps: unused.
    sigma_rel: standard deviation of the profile as a share of the updates made
      so far, in [1e-6, 0.2886].
    dtype: see `half_life`.

  Raises:
    ValueError: if a value is out of range.
  """
  del total_steps, to_steps
  decays = functools.partial(_power_decay, gamma=gamma_of(sigma_rel))
  return Ema(decays, None, dtype, sigma_rel)


EMAS = {'half_life': half_life, 'decay': decay, 'power': power}
RECORDED = {'half_life', 'ramp', 'until', 'decay', 'dtype'}


def named(spec: Mapping[str, Any]) -> dict[str, Any]:
  """The spec of an EMA with its kind, which a config may leave out.

  It is the kind that one of the options is called after, or else the first that
  takes them all, as `decay` alone has a `warmup`, or else the first. A run that
  was recorded before there were kinds has the options of both: those of a
  half-life have no effect if `decay` is not None.
  """
  if 'name' in spec:
    return dict(spec)
  unused = {'half_life', 'ramp'} if set(spec) == RECORDED else set()
  if spec.get('decay') is None:
    unused = {'decay'}
  spec = {key: value for key, value in spec.items() if key not in unused}
  called = [k for k in EMAS if k in spec]
  taking = [
    k
    for k in EMAS
    if spec.keys() <= inspect.signature(EMAS[k]).parameters.keys()
  ]
  return {'name': [*called, *taking, 'half_life'][0], **spec}


def halving(step: Array | int, half_life: float, ramp: float | None) -> Array:
  """d that halves the distance in `half_life` updates, float32 in [0, 1).

  Args:
    step: updates made before this one.
    half_life: in updates; 0 disables averaging, d = 0.
    ramp: None disables it; otherwise d = 0 at the first update.
  """
  steps = jnp.asarray(half_life, jnp.float32)
  if ramp is not None:
    steps = jnp.minimum(steps, ramp * jnp.asarray(step, jnp.float32))
  return 0.5 ** (1 / jnp.maximum(steps, 1e-8))


def _power_decay(step: Array, gamma: float) -> Array:
  """(1 − 1 / n)^(γ + 1) for n = step + 1, to the last digit of float32."""
  n = jnp.asarray(step, jnp.float32) + 1
  return jnp.exp((gamma + 1) * jnp.log1p(-1 / n))


def init_ema(params: Any, dtype: str = 'float32') -> Any:
  """A copy of a tree of parameters, in buffers of its own."""
  return jax.tree.map(lambda p: jnp.array(p, DTYPES[dtype]), params)


def update(
  ema: Any, params: Any, decay: Array | float, key: Array | None = None
) -> Any:
  """p + d (ema − p): exactly the parameters at d = 0, and at a fixed point.

  With a key, bfloat16 EMA weights are rounded stochastically, otherwise to the
  nearest.
  """
  leaves, tree = jax.tree.flatten(ema)
  keys = [None] * len(leaves)
  if key is not None:
    keys = [jax.random.fold_in(key, i) for i in range(len(leaves))]
  new = [
    _update_leaf(e, p, decay, own)
    for e, p, own in zip(leaves, jax.tree.leaves(params), keys, strict=True)
  ]
  return jax.tree.unflatten(tree, new)


def _update_leaf(
  e: Array, p: Array, decay: Array | float, key: Array | None
) -> Array:
  wide = e.astype(jnp.promote_types(e.dtype, jnp.float32))
  new = p + decay * (wide - p)
  if key is None or e.dtype != jnp.bfloat16:
    return new.astype(e.dtype)
  return round_stochastically(new, key)
