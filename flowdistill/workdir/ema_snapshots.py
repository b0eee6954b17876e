"""Reconstructs power EMAs from the snapshots in the folder of a stage."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging

from flowdistill.build.ema_snapshots import (
  fitted,
  kept_until,
  power_of,
  resolved,
)
from flowdistill.config.bind import ConfigError
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import CheckpointError
from flowdistill.training.ema_profiles import Snapshot, combine
from flowdistill.training.ema_snapshots import snapshot
from flowdistill.training.roles import Params
from flowdistill.training.sharding import Layout
from flowdistill.training.state import all_finite
from flowdistill.workdir.folders import EMA_SNAPSHOTS
from flowdistill.workdir.results import say


def reconstruct(
  stage: Any,
  role: str,
  sigma_rel: float,
  step: int,
  own: Mapping[str, Params],
  layout: Layout | None,
  spelled: str,
) -> Params:
  """The power EMA of a width at a step, of which no EMA is tracked.

  Args:
    stage: the blueprint of the stage.
    role: that learns.
    sigma_rel: the relative width.
    step: of the checkpoint.
    own: name -> EMA weights in that checkpoint.
    layout: of the snapshots; None places them on the first device.
    spelled: how the user named it, for errors.

  Returns:
    float32 arrays.

  Raises:
    ConfigError: if the snapshots are too few, or have numbers that are not
      finite.
    CheckpointError: if one is damaged.
  """
  steps = checkpoint.completed_steps(stage.folder / EMA_SNAPSHOTS)
  kept = kept_until(stage, role, steps, step)
  found = fitted(stage, kept, sigma_rel, spelled)

  @functools.lru_cache(maxsize=1)
  def read(at: int) -> Mapping[str, Params]:
    return own if at == step else _read(stage, role, at, layout)

  params = combine(
    [Snapshot(k.profile, lambda k=k: read(k.step)[k.name]) for k in kept],
    found,
  )
  if not bool(all_finite(params)):
    raise ConfigError(
      f'{spelled}: a snapshot has numbers that are not finite; where weights '
      "exceed 65504, train with ema_snapshots.dtype = 'float32'"
    )
  logging.info('%s at step %d: off by %.2g', spelled, step, found.residual)
  return params


def usable(
  stage: Any, roles: Iterable[str], names: Iterable[str], step: int
) -> list[str]:
  """The weights that roles have at a step; a line names each that is missing.

  Args:
    stage: the blueprint of the stage.
    roles: that learn.
    names: of weights, such as 'ema' or 'power:0.07'.
    step: of a checkpoint.
  """
  steps = checkpoint.completed_steps(stage.folder / EMA_SNAPSHOTS)
  kept = []
  for name in names:
    try:
      for role in roles:
        if isinstance(found := resolved(stage, role, name), float):
          at = kept_until(stage, role, steps, step)
          fitted(stage, at, found, f'--weights={name}')
    except ConfigError as error:
      say(f'step {step} is left out: {error}')
      continue
    kept.append(name)
  return kept


def with_some(
  steps: Iterable[int], kept: Callable[[int], Sequence[str]], asked: str
) -> Iterator[int]:
  """The steps at which there are weights, see `usable`.

  Args:
    steps: of checkpoints.
    kept: the weights of a step that can be used.
    asked: the options that select steps and weights, for the error.

  Raises:
    ConfigError: at the end, if there was a step, and none had any.
  """
  seen = used = 0
  for step in steps:
    seen += 1
    if kept(step):
      used += 1
      yield step
  if seen and not used:
    raise ConfigError(
      f'{asked} must select a checkpoint with enough snapshots before it, and '
      f'selects {seen} with too few'
    )


def _read(
  stage: Any, role: str, step: int, layout: Layout | None
) -> Mapping[str, Params]:
  """Name -> EMA weights of a role in the snapshot of a step."""
  folder = stage.folder / EMA_SNAPSHOTS
  dtype = stage.stage.ema_snapshots.dtype
  profiles = {role: power_of(stage, role)}
  tree = jax.eval_shape(lambda s: snapshot(s, profiles, dtype), stage.state)
  tree = layout.abstract(tree) if layout else tree
  found = checkpoint.restore(folder, tree, step, partial=True)
  if (own := int(found['step'])) != step:
    raise CheckpointError(
      f'the snapshot {folder / str(step)} is of step {own}: it was renamed. '
      'Give it that name again, or remove it'
    )
  return found['roles'][role].emas
