"""The ways of sampling among which `--tune` chooses the best for each NFE."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from flowdistill.build.sampling_plan import combinations
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sampling import Sampling, Samplings
from flowdistill.samplers.sampling_plan import Plan

JUMP = 'flow_map'
GAMMA = 'gamma'  # the sampler, which with γ = 0 is JUMP, and its option
TRIED: dict[str, tuple[Any, ...]] = {
  'nfe': (1, 2, 4, 8),
  'gamma': (0.0, 0.3, 0.6, 1.0),
  'guidance': (None, 1.25, 1.5, 2.0, 3.0),
}
"""Knob -> the values that are tried, unless the job names any."""


def ways(
  given: Samplings, knobs: Sequence[str], plan: Callable[[Sampling], Plan]
) -> list[Sampling]:
  """Every combination of the knobs' values that can be, and differs.

  What is impossible is left out, such as a step with two calls at 1 NFE, and
  so is a γ that has no effect, as at the last jump.

  Args:
    given: lists of values; a knob that has the default has those of `TRIED`.
    knobs: in `TRIED`.
    plan: of a way of sampling; raises ValueError if it is impossible.

  Raises:
    ConfigError: for an unknown knob, one that the sampler does not have, or an
      adaptive sampler.
    ValueError: if a value that is given is possible in no combination, or no
      guidance is.
  """
  for knob in knobs:
    if knob not in TRIED:
      raise ConfigError(f'--tune={knob} is no knob; {suggest(knob, TRIED)}')
  if None in given.nfe:
    raise ConfigError(
      f'--tune={",".join(knobs)} must have numbers in --nfe: an adaptive '
      'sampler has no NFE of its own'
    )
  lists = _lists(given, knobs)
  possible: list[Sampling] = []
  kept: list[Sampling] = []
  failed: list[tuple[Sampling, ValueError]] = []
  for way in combinations(lists):
    try:
      jumps = len(plan(way).times) - 1
    except ValueError as error:
      failed.append((way, error))
      continue
    possible.append(way)
    if (way := _simplest(way, jumps)) not in kept:
      kept.append(way)
  names = vars(Sampling())
  typed = [n for n in names if getattr(lists, n) == getattr(given, n)]
  for way, error in failed:
    if any(_is_nowhere(way, possible, name) for name in typed):
      raise error
  if 'guidance' in knobs and failed and _is_same(possible, 'guidance'):
    raise failed[0][1]
  return kept


def _is_nowhere(way: Sampling, possible: list[Sampling], name: str) -> bool:
  return all(getattr(way, name) != getattr(p, name) for p in possible)


def _is_same(possible: list[Sampling], name: str) -> bool:
  first = getattr(possible[0], name)
  return all(getattr(way, name) == first for way in possible)


def _lists(given: Samplings, knobs: Sequence[str]) -> Samplings:
  """The lists of values, with those of `TRIED` for the knobs."""
  lists: dict[str, Any] = {
    knob: TRIED[knob]
    for knob in ('nfe', 'guidance')
    if knob in knobs and getattr(given, knob) == getattr(Samplings(), knob)
  }
  if GAMMA in knobs:
    if given.sampler not in ((JUMP,), (GAMMA,)):
      raise ConfigError(
        f'--tune={GAMMA} must be with --sampler={GAMMA}, not '
        f'{", ".join(given.sampler)}: it alone has γ'
      )
    lists |= {'sampler': (GAMMA,)}
    if not given.options:
      lists['options'] = tuple({GAMMA: value} for value in TRIED[GAMMA])
  return dataclasses.replace(given, **lists)


def _simplest(way: Sampling, jumps: int) -> Sampling:
  """γ = 0, and every γ of one jump, is the sampler without γ."""
  if way.sampler != GAMMA or (jumps > 1 and way.options.get(GAMMA) != 0):
    return way
  rest = {name: v for name, v in way.options.items() if name != GAMMA}
  return dataclasses.replace(way, sampler=JUMP, options=rest)
