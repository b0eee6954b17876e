"""The ways of sampling among which `--tune` chooses the best for each NFE."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from flowdistill.build.sampling_plan import combinations
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sampling import Sampling, Samplings
from flowdistill.samplers.sampling_plan import Plan

GAMMA, JUMP = (
  'gamma',
  'flow_map',
)  # samplers; with γ = 0 the first is the second
TRIED: dict[str, tuple[Any, ...]] = {
  'nfe': (1, 2, 4, 8),
  'gamma': (0.0, 0.3, 0.6, 1.0),
  'guidance': (None, 1.25, 1.5, 2.0, 3.0),
}
"""Knob -> the values that are tried, unless the job names several."""


def ways(
  given: Samplings, knobs: Sequence[str], plan: Callable[[Sampling], Plan]
) -> list[Sampling]:
  """Every combination of the knobs' values that can be, and differs.

  What is impossible is left out, such as a step with two calls at 1 NFE, and
  so is a γ that has no effect, as at the last jump.

  Args:
    given: lists of values; a knob with one value here has those of `TRIED`.
    knobs: in `TRIED`.
    plan: of a way of sampling; raises ValueError if it is impossible.

  Raises:
    ConfigError: for an unknown knob, one that the sampler does not have, or an
      adaptive sampler.
    ValueError: if no combination is possible.
  """
  for knob in knobs:
    if knob not in TRIED:
      raise ConfigError(f'--tune={knob} is no knob; {suggest(knob, TRIED)}')
  if None in given.nfe:
    raise ConfigError(
      f'--tune={",".join(knobs)} must have numbers in --nfe: an adaptive '
      'sampler has no NFE of its own'
    )
  kept: list[Sampling] = []
  errors: list[ValueError] = []
  for way in combinations(_lists(given, knobs)):
    try:
      jumps = len(plan(way).times) - 1
    except ValueError as error:
      errors.append(error)
      continue
    if (way := _simplest(way, jumps)) not in kept:
      kept.append(way)
  if not kept:
    raise errors[0]
  return kept


def _lists(given: Samplings, knobs: Sequence[str]) -> Samplings:
  """The lists of values, with those of `TRIED` for the knobs."""
  lists: dict[str, Any] = {
    knob: TRIED[knob]
    for knob in ('nfe', 'guidance')
    if knob in knobs and len(getattr(given, knob)) == 1
  }
  if GAMMA in knobs:
    if given.sampler not in ((JUMP,), (GAMMA,)):
      raise ConfigError(
        f'--tune={GAMMA} must be with --sampler={GAMMA}, not '
        f'{", ".join(given.sampler)}: it alone has γ'
      )
    lists |= {'sampler': (GAMMA,)}
    if len(given.options) < 2:
      lists['options'] = tuple({GAMMA: value} for value in TRIED[GAMMA])
  return dataclasses.replace(given, **lists)


def _simplest(way: Sampling, jumps: int) -> Sampling:
  """γ = 0, and every γ of one jump, is the sampler without γ."""
  if way.sampler != GAMMA or (jumps > 1 and way.options.get(GAMMA) != 0):
    return way
  rest = {name: v for name, v in way.options.items() if name != GAMMA}
  return dataclasses.replace(way, sampler=JUMP, options=rest)
