"""Samplers with the options and the grid that were published for them.

Such a name stands for a sampler of `SAMPLERS`, its options and a time grid;
options and a grid that are given beside it replace those. Their names in the
original are in brackets.

Source: Cheng et al., "TwinFlow" (2025), https://arxiv.org/abs/2512.05150: the
file src/README.md of https://github.com/inclusionAI/TwinFlow, which samples all
three without guidance [cfg_scale: 0].
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flowdistill.samplers.sampling_plan import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """What a name stands for.

  Attributes:
    sampler: a name in SAMPLERS [sampling_style].
    options: of the sampler [stochast_ratio, extrapol_ratio, sampling_order].
    grid: [time_dist_ctrl, rfba_gap_steps].
  """

  sampler: str
  options: Mapping[str, Any]
  grid: Mapping[str, Any]


# Published for 1 or 2 steps (in one step no noise is added, whatever the ratio
# of 0.8 says), 4 or 8, and 30 [sampling_steps].
PUBLISHED = {
  'twinflow_few': Published(
    sampler='few',
    options={'stochasticity': 1.0, 'extrapolation': 0.0},
    grid={'name': 'kumaraswamy', 'gap': (0.001, 0.7)},
  ),
  'twinflow_any': Published(
    sampler='any',
    options={'stochasticity': 0.0, 'extrapolation': 0.0},
    grid={'name': 'kumaraswamy', 'gap': (0.001, 0.5)},
  ),
  'twinflow_mul': Published(
    sampler='mul',
    options={'stochasticity': 0.0, 'extrapolation': 0.0, 'order': 1},
    grid={
      'name': 'kumaraswamy', 'a': 1.17, 'b': 0.8, 'c': 1.1,
      'gap': (0.001, 0.0),
    },
  ),
}  # fmt: skip


def spelled_out(
  sampler: Any, given: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
  """The sampler of a name, with its options and 'grid', and those given.

  A name that is not in PUBLISHED is returned as it is.
  """
  known = PUBLISHED.get(sampler) if isinstance(sampler, str) else None
  if known is None:
    return sampler, dict(given)
  return known.sampler, {**known.options, 'grid': known.grid, **given}


def grid_of(sampler: str, default: Grid) -> Grid:
  """The grid of a sampler where none is given: its own, else the default."""
  known = PUBLISHED.get(sampler)
  return default if known is None else known.grid
