"""Optimisers and schedules of the learning rate, as entries of two tables.

A schedule is a function of the number of updates made so far. With gradient
accumulation an update takes several micro-steps: `total_steps` and the results
of `to_steps` must then count updates.

Nothing here makes an array, so that a config can be checked before any device
is touched.
"""

import fnmatch
from collections.abc import Callable
from typing import Any

import jax
import optax

from flowdistill.training.lengths import Length
from flowdistill.training.moments import in_bfloat16
from flowdistill.training.muon import muon
from flowdistill.training.optim_ranges import (
  check_decay,
  check_moments,
  check_rate,
)
from flowdistill.training.sharding import path_name

ToSteps = Callable[[Length], int]


def constant(
  total_steps: int,
  to_steps: ToSteps,
  *,
  learning_rate: float = 1e-3,
  warmup: Length = Length(steps=0),
) -> optax.Schedule:
  """A constant rate, after a linear warm-up from 0.

  Args:
    total_steps: updates of the whole run.
    to_steps: turns a length into updates.
    learning_rate: above 0.
    warmup: of the rate, which is 0 at the first update. A run that is shorter
      than the warm-up never reaches `learning_rate`.

  Raises:
    ValueError: if a value is out of range.
  """
  del total_steps
  check_rate(learning_rate)
  return _after_warmup(
    optax.constant_schedule(learning_rate), learning_rate, to_steps(warmup)
  )


def cosine(
  total_steps: int,
  to_steps: ToSteps,
  *,
  learning_rate: float = 1e-3,
  warmup: Length = Length(steps=0),
  final: float = 0.0,
) -> optax.Schedule:
  """A linear warm-up from 0, then a cosine decay to the end of the run.

  Args:
    total_steps: updates of the whole run.
    to_steps: turns a length into updates.
    learning_rate: the highest rate, above 0.
    warmup: of the rate, which is 0 at the first update. A run that is shorter
      than the warm-up never reaches `learning_rate`.
    final: the rate at `total_steps` as a share of the highest, in [0, 1].

  Raises:
    ValueError: if a value is out of range.
  """
  if not 0 <= final <= 1:
    raise ValueError(f'final = {final} must lie in [0, 1], a share of the rate')
  check_rate(learning_rate)
  rise = to_steps(warmup)
  fall = optax.cosine_decay_schedule(
    learning_rate, max(1, total_steps - rise), alpha=final
  )
  return _after_warmup(fall, learning_rate, rise)


SCHEDULES = {'constant': constant, 'cosine': cosine}


def adam(
  schedule: optax.Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam. Source: Kingma & Ba (2014), https://arxiv.org/abs/1412.6980."""
  check_moments(eps, b1=b1, b2=b2)
  return optax.adam(schedule, b1=b1, b2=b2, eps=eps)


def adamw(
  schedule: optax.Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.01,
) -> optax.GradientTransformation:
  """Adam; each step also shrinks the parameters by rate times `weight_decay`.

  Source: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2017),
  https://arxiv.org/abs/1711.05101.
  """
  check_moments(eps, b1=b1, b2=b2)
  check_decay(weight_decay)
  return optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)


def radam(
  schedule: optax.Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam that rectifies the variance of its adaptive rate in the first steps.

  Source: Liu et al., "On the Variance of the Adaptive Learning Rate and
  Beyond" (2019), https://arxiv.org/abs/1908.03265.
  """
  check_moments(eps, b1=b1, b2=b2)
  return optax.radam(schedule, b1=b1, b2=b2, eps=eps)


OPTIMISERS = {'adam': adam, 'adamw': adamw, 'muon': muon, 'radam': radam}


def make_optimiser(
  inner: optax.GradientTransformation,
  *,
  clip: float | None = None,
  accumulate: int = 1,
  only: str = '*',
  state_dtype: str = 'float32',
) -> optax.GradientTransformation:
  """Adds clipping and accumulation of gradients to an optimiser.

  Args:
    inner: the optimiser.
    clip: largest global norm of a gradient; None disables it. (PyTorch divides
      by the norm + 1e-6.)
    accumulate: micro-steps whose mean gradient makes one update. The mean is
      clipped, and `inner`, with its schedule, counts updates.
    only: pattern of the paths of the parameters that are updated; the others
      keep their values, and are in no norm that clips.
    state_dtype: of the state of `inner`, 'float32' or 'bfloat16'; the sum of
      gradients that are accumulated is float32.

  Raises:
    ValueError: if `clip` is not above 0, or `accumulate` not an integer of at
      least 1.
  """
  if clip is not None and not clip > 0:
    raise ValueError(f'clip = {clip} must be above 0, or None')
  if isinstance(accumulate, bool) or not isinstance(accumulate, int):
    raise ValueError(f'accumulate = {accumulate!r} must be an integer')
  if accumulate < 1:
    raise ValueError(f'accumulate = {accumulate} must be at least 1')
  if state_dtype != 'float32':
    inner = in_bfloat16(inner)
  if clip is not None:
    inner = optax.chain(optax.clip_by_global_norm(clip), inner)
  if only != '*':
    rest = optax.masked(optax.set_to_zero(), lambda p: others(p, only))
    inner = optax.chain(rest, inner, rest)
  if accumulate == 1:
    return inner
  return optax.MultiSteps(inner, accumulate).gradient_transformation()


def others(params: Any, pattern: str) -> Any:
  """params -> whether an array's path does not match the pattern."""

  def differs(path: Any, _: Any) -> bool:
    return not fnmatch.fnmatchcase(path_name(path), pattern)

  return jax.tree.map_with_path(differs, params)


def _after_warmup(
  schedule: optax.Schedule, learning_rate: float, steps: int
) -> optax.Schedule:
  if steps == 0:
    return schedule
  rise = optax.linear_schedule(0.0, learning_rate, steps)
  return optax.join_schedules([rise, schedule], [steps])
