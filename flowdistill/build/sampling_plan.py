"""Validates the options of sampling, and turns them into a `Plan`."""

import dataclasses
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flowdistill.config.bind import ConfigError, Table, options, suggest
from flowdistill.config.resolve import resolve
from flowdistill.config.sampling import Sampling, Samplings
from flowdistill.flow.spec import DataSpec
from flowdistill.samplers import GRIDS, SAMPLERS
from flowdistill.samplers.grids import falls
from flowdistill.samplers.guided import (
  AGAINST,
  NULL,
  against,
  as_scalars,
  interval,
)
from flowdistill.samplers.published import PUBLISHED, spelled_out
from flowdistill.samplers.sampling_plan import Plan, make_plan
from flowdistill.training.roles import AVERAGE, VELOCITY

SAMPLER = 'sampler'  # what errors call an entry of SAMPLERS
MOST_CALLS = 10_000  # of the network for one example; more is no better


def plan_sampling(
  sampler: str,
  nfe: int | None,
  given: Mapping[str, Any] | None = None,
  *,
  spec: DataSpec,
  scalars: Collection[str] = (),
  answers: str = AVERAGE,
  guides: Callable[[], Mapping[str, str]] = dict,
  backwards: bool = False,
  data: str = 'this data set',
) -> Plan:
  """Validates the options of sampling, before any device is used.

  Args:
    sampler: a name in SAMPLERS or PUBLISHED.
    nfe: network calls for one example, two for a guided step; None for an
      adaptive sampler.
    given: options of the sampler, 'grid' and 'guidance'.
    spec: of the data that the network was trained on.
    scalars: the scalar conditions that the network takes. With guidance among
      them, the network is called once, conditioned on its scale.
    answers: what the network was trained to answer: 'average' velocities, or
      'velocity', which is that at s = t alone.
    guides: gives role -> the same of other networks, which guidance may lead
      away from; it is asked only where guidance names one.
    backwards: whether to integrate from data to noise.
    data: the data set, in errors.

  Raises:
    ValueError: for an unknown name, or an option that is out of range or has no
      effect.
  """
  sampler, chosen = spelled_out(sampler, given or {})
  grid, guidance = chosen.pop('grid', 'uniform'), chosen.pop('guidance', None)
  _check_options(SAMPLER, SAMPLERS, sampler, chosen)
  check_grid(grid)
  _check_kind(sampler, nfe, chosen, backwards=backwards)
  guided = interval(guidance)
  worse = against(guidance, guides)
  conditioned = as_scalars(guided, scalars)
  if conditioned and worse != NULL:
    raise ValueError(
      f'guidance = {guidance!r} must not be against another network: this one '
      f'is conditioned on {[*conditioned]}'
    )
  if guided is not None and worse != NULL:
    both = {'this network': answers, repr(worse): guides()[worse]}
    _check_answers(sampler, chosen, guidance, both)
  if (
    guidance is not None and not conditioned and not spec.cond and worse == NULL
  ):
    raise ValueError(
      f'guidance = {guidance!r} must be removed: {data} has no conditions'
    )
  plan = make_plan(
    sampler,
    nfe,
    chosen,
    grid=grid,
    guidance=None if conditioned else guided,
    backwards=backwards,
  )
  times = plan.times[::-1] if backwards else plan.times
  if not falls(times):
    raise ValueError(
      f'grid = {grid!r} must fall in {len(times) - 1} steps: {times}'
    )
  return dataclasses.replace(plan, scalars=conditioned, against=worse)


def _check_answers(
  sampler: str,
  given: Mapping[str, Any],
  guidance: Any,
  networks: Mapping[str, str],
) -> None:
  """Refuses to extrapolate from average velocities to velocities."""
  instant = [who for who, answer in networks.items() if answer == VELOCITY]
  if instant and SAMPLERS[sampler](lambda x, t, s: x, **given).jumps:
    raise ValueError(
      f'sampler = {sampler!r} must be a solver of the ODE, such as heun, for '
      f'guidance = {guidance!r}: it needs average velocities of both networks, '
      f'and {instant[0]} was trained to answer velocities alone'
    )


def called(
  role: str, guidance: Any, guides: Callable[[], Collection[str]]
) -> list[str]:
  """The roles whose networks are called, with this guidance.

  Args:
    role: that is sampled.
    guidance: as in the options of sampling.
    guides: gives the roles that may guide it.

  Raises:
    ValueError: if it is against a role that cannot guide.
  """
  worse = against(guidance, guides)
  return [role] if worse == NULL else [role, worse]


def led_away(guidance: Mapping[str, Any], role: str) -> dict[str, Any]:
  """The same guidance, against the network of another role."""
  return {**guidance, AGAINST: role}


def has_own_grid(sampler: str) -> bool:
  """Whether a sampler is published with a grid, where none is given."""
  return sampler in PUBLISHED


def combinations(samplings: Samplings) -> list[Sampling]:
  """The combinations that are meant: NFE = None is for adaptive samplers.

  One of each sampler is kept in any case, so that its error is raised.
  """
  kept: dict[str, list[Sampling]] = {}
  for each in samplings.each():
    fitting = kept.setdefault(each.sampler, [])
    if _is_adaptive(each.sampler) == (each.nfe is None):
      fitting.append(each)
  first = {each.sampler: each for each in reversed(samplings.each())}
  return [each for name in kept for each in kept[name] or [first[name]]]


def _is_adaptive(sampler: str) -> bool:
  known = SAMPLERS.get(sampler)
  return known is not None and known(lambda x, t, s: x).control is not None


def check_grid(grid: Any) -> None:
  """Raises ValueError unless it is a grid with options that it has."""
  named = {'name': grid} if isinstance(grid, str) else grid
  if not isinstance(named, Mapping):
    raise ValueError(
      f"grid = {grid!r} must be a name, or a dict like {{'name': 'shifted', "
      "'shift': 2.0}"
    )
  given = {key: value for key, value in named.items() if key != 'name'}
  _check_options('grid', GRIDS, named.get('name', ''), given)


def _check_options(
  kind: str, table: Table, name: Any, given: Mapping[str, Any]
) -> None:
  """Checks a name, and the names and types of its options."""
  if not isinstance(name, str) or name not in table:
    names = [*table, *PUBLISHED] if kind == SAMPLER else table
    raise ValueError(
      f'{kind} = {name!r} does not exist; {suggest(name, names)}'
    )
  known = options(table[name])
  for key, value in given.items():
    if key not in known:
      raise ValueError(f'{name} takes no {key!r}; {suggest(key, known)}')
    try:
      resolve(value, known[key].annotation, key, {})
    except ConfigError as error:  # the caller adds the key of the config
      raise ValueError(str(error).removeprefix('config.')) from error


def _check_kind(
  sampler: str, nfe: Any, given: Mapping[str, Any], *, backwards: bool
) -> None:
  """Checks whether a sampler is reversible, and whether it is adaptive."""
  method = SAMPLERS[sampler](lambda x, t, s: x, **given)
  if backwards and not method.reversible:
    raise ValueError(
      f'sampler = {sampler!r} must be a solver of the ODE, such as heun, to go '
      'from data to noise'
    )
  whole = isinstance(nfe, numbers.Integral) and not isinstance(nfe, bool)
  if method.control is None and not whole:
    raise ValueError(f'nfe = {nfe!r} must be an integer for {sampler!r}')
  if method.control is not None and nfe is not None:
    raise ValueError(
      f'nfe = {nfe!r} must be None for {sampler!r}: its rtol determines the '
      'number of calls, which is counted'
    )
  if nfe is not None and int(nfe) > MOST_CALLS:
    raise ValueError(f'nfe = {nfe} must be at most {MOST_CALLS}')
