"""What is kept of a train state, so that power EMAs can be reconstructed."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.training.ema import Ema
from flowdistill.training.state import RoleState, TrainState

DTYPES = ('float16', 'float32')
Profiles = Mapping[str, Mapping[str, float]]
"""Role -> name of an EMA of kind `power` -> its σ_rel."""


def check_snapshot_dtype(dtype: str) -> None:
  """Raises ValueError if snapshots cannot be kept in that dtype.

  bfloat16 has too few digits: snapshots are added with signs.
  """
  if dtype not in DTYPES:
    choices = ' or '.join(map(repr, DTYPES))
    raise ValueError(f'dtype = {dtype!r} must be {choices}')


def power_emas(emas: Mapping[str, Ema]) -> dict[str, float]:
  """Name -> σ_rel, of the EMAs of kind `power`."""
  return {
    name: ema.sigma_rel
    for name, ema in emas.items()
    if ema.sigma_rel is not None
  }


def snapshot(state: TrainState, profiles: Profiles, dtype: str) -> Any:
  """The tree of a snapshot: the step, and the EMAs of each role.

  An EMA has the path that it has in a checkpoint.
  """
  wanted = jnp.dtype(dtype)

  def kept(role: str) -> RoleState:
    emas = {name: state.roles[role].emas[name] for name in profiles[role]}
    return RoleState({}, {}, jax.tree.map(lambda x: x.astype(wanted), emas))

  return {'step': state.step, 'roles': {role: kept(role) for role in profiles}}
