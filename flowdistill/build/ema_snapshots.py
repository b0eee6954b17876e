"""Which power EMAs can be reconstructed from the snapshots of a stage."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from flowdistill.config.bind import ConfigError
from flowdistill.training.ema_profiles import (
  Fit,
  Profile,
  fit,
  fit_each,
  power_name,
  sigma_rel_in,
)
from flowdistill.training.ema_snapshots import Profiles, power_emas

RESIDUAL = 0.03  # of a profile: a random walk is then within 1 %
ROUNDING = 0.01  # of the weights, by the digits that snapshots have
MOST = 128  # snapshots that are read; more reach no further
WIDTHS = np.unique([float(f'{x:.2g}') for x in np.geomspace(0.002, 0.28, 150)])


@dataclasses.dataclass(frozen=True)
class Kept:
  """The EMA weights of a role that were kept at a step.

  Attributes:
    step: of the snapshot, or of the checkpoint itself.
    name: of the EMA.
    profile: in updates of the role.
    dtype: with the fewest digits that the weights had.
  """

  step: int
  name: str
  profile: Profile
  dtype: str


def profiles_of(stage: Any) -> Profiles:
  """The EMAs of kind `power` of a blueprint, of the roles that track any."""
  found = {role: power_of(stage, role) for role in stage.learners}
  return {role: emas for role, emas in found.items() if emas}


def power_of(stage: Any, role: str) -> dict[str, float]:
  """Name -> σ_rel, of the EMAs of kind `power` of a role."""
  return power_emas(stage.learners[role].learns.emas)


def resolved(stage: Any, role: str, weights: str) -> str | float:
  """The name of weights, or the σ_rel of an EMA that is to be reconstructed.

  'power:0.05' is the EMA of that width, if one is tracked.

  Raises:
    ValueError: for 'power:' and no width that can be.
  """
  if weights in stage.learners[role].learns.emas:
    return weights
  if (wanted := sigma_rel_in(weights)) is None:
    return weights
  same = [n for n, sigma in power_of(stage, role).items() if sigma == wanted]
  return same[0] if same else wanted


def check_reconstruction(
  stage: Any, role: str, sigma_rel: float, spelled: str
) -> None:
  """Refuses what the stage will not have kept snapshots for at its end.

  Args:
    stage: the blueprint that trains the role.
    role: its name.
    sigma_rel: of the EMA, which is not tracked.
    spelled: how the user named it, for the error.

  Raises:
    ConfigError: if it tracks no EMA of kind `power`, or too few are kept.
  """
  emas = power_of(stage, role)
  if not emas:
    raise ConfigError(
      f'{spelled} must be reconstructed from EMAs of kind power, and stage '
      f'{stage.name!r} tracks none of the role {role!r}; its weights are '
      f'{_listed(["ema", "params", *stage.learners[role].learns.emas])}'
    )
  every = stage.to_steps(stage.stage.ema_snapshots.every)
  if not every:
    raise ConfigError(
      f'{spelled} must be an EMA that is tracked, for stage {stage.name!r} '
      'keeps no snapshots of its EMAs (ema_snapshots.every = None); take '
      f'{_listed(map(power_name, emas.values()))}'
    )
  steps = range(every, stage.total, every)
  fitted(stage, kept_until(stage, role, steps, stage.total), sigma_rel, spelled)


def kept_until(
  stage: Any, role: str, snapshots: Iterable[int], step: int
) -> list[Kept]:
  """What there is of the EMAs of a role at a step, the step itself the last.

  Of more than MOST snapshots before it those are taken that are evenly spaced.
  """
  updates, section = stage.learners[role].updates, stage.stage.ema_snapshots
  own = updates(step)
  earlier = {updates(n): n for n in snapshots if 0 < updates(n) < own}
  steps = thinned([earlier[time] for time in sorted(earlier)])
  emas = stage.learners[role].learns.emas
  return [
    Kept(
      n,
      name,
      Profile(sigma, updates(n)),
      _coarser(emas[name].dtype, section.dtype if n < step else 'float32'),
    )
    for n in ([*steps, step] if own else [])
    for name, sigma in power_of(stage, role).items()
  ]


def thinned(times: list[int]) -> list[int]:
  """At most MOST of them, evenly spaced, the first and the last among them."""
  if len(times) <= MOST:
    return times
  chosen = np.linspace(0, len(times) - 1, MOST).round().astype(int)
  return [times[i] for i in chosen]


def _coarser(*dtypes: str) -> str:
  return max(dtypes, key=lambda dtype: jnp.finfo(dtype).eps)


def fitted(stage: Any, kept: list[Kept], sigma_rel: float, spelled: str) -> Fit:
  """The combination that reconstructs an EMA at the step of the last.

  Raises:
    ConfigError: naming the nearest width, if it would be another EMA.
  """
  if not kept:
    raise ConfigError(
      f'{spelled} must be of a step at which the role was updated before'
    )
  every, count = stage.stage.ema_snapshots.every, len({x.step for x in kept})
  remedy = Remedy(
    f'{count - 1} snapshots (ema_snapshots.every = {every}) before step '
    f'{kept[-1].step}',
    'train with a second EMA of kind power, or more frequent snapshots',
    'train with more frequent snapshots',
    "train with dtype = 'float32'",
  )
  return reachable(kept, sigma_rel, spelled, remedy)


@dataclasses.dataclass(frozen=True)
class Remedy:
  """What to say of snapshots that do not reach an EMA.

  Attributes:
    what: the snapshots that there are.
    one: what helps where all have one width.
    several: where they have several.
    rounded: where they have too few digits.
    spell: how the user asks for a width.
  """

  what: str
  one: str
  several: str
  rounded: str
  spell: Callable[[float], str] = power_name


def reachable(
  kept: list[Kept], sigma_rel: float, spelled: str, remedy: Remedy
) -> Fit:
  """The combination that reconstructs an EMA at the time of the last.

  Raises:
    ConfigError: naming the nearest width, if it would be another EMA.
  """
  time, profiles = kept[-1].profile.time, [each.profile for each in kept]
  found = fit(profiles, Profile(sigma_rel, time))
  if _is_near(found, kept):
    return found
  off, noise = found.residual, _noise(found, kept)
  near = min(_reached(kept), key=lambda x: abs(math.log(x / sigma_rel)))
  why = f'its profile would be off by {off:.1%}'
  fix = remedy.one if len({each.name for each in kept}) == 1 else remedy.several
  if off <= RESIDUAL:
    why, fix = f'rounded, it would be off by {noise:.1%}', remedy.rounded
  raise ConfigError(
    f'{spelled} must be a width that can be reconstructed: from {remedy.what} '
    f'{why}; the nearest is {remedy.spell(near)}. To reach further, {fix}'
  )


def _is_near(found: Fit, kept: list[Kept]) -> bool:
  return found.residual <= RESIDUAL and _noise(found, kept) <= ROUNDING


def _noise(found: Fit, kept: list[Kept]) -> float:
  """The relative error of the sum, if its terms are rounded independently."""
  digits = np.array([jnp.finfo(each.dtype).eps / 4 for each in kept])
  return float(np.linalg.norm(found.coefficients * digits))


def _reached(kept: list[Kept]) -> Iterator[float]:
  """The widths of two digits that can be reconstructed, or are tracked."""
  time, profiles = kept[-1].profile.time, [each.profile for each in kept]
  yield from {each.sigma_rel for each in profiles if each.time == time}
  found = fit_each(profiles, [Profile(float(x), time) for x in WIDTHS])
  for width, each in zip(WIDTHS, found, strict=True):
    if _is_near(each, kept):
      yield float(width)


def _listed(names: Iterable[str]) -> str:
  return ', '.join(map(repr, names))
