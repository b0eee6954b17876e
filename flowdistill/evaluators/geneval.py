"""GenEval of samples: do they show what their prompts ask for?"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flowdistill.evaluators.signature import Data, Gauge, Models, Row
from flowdistill.evaluators.sweep import (
  SWEEP,
  SweepEntry,
  conditions,
  draw_timed,
  parse_sweep,
)
from flowdistill.metrics.geneval import TAGS, Prompt, judge, scores

NAME = 'geneval'


def geneval(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  sweep: dict[str, Any] = SWEEP,
  samples: int = 600,
  seed: int = 0,
) -> Iterator[Row]:
  """Yields a row per entry of the sweep: `geneval` and its six categories.

  Sample i has the conditions of example i, and is correct if what the data's
  own detector finds in it is what the prompt of example i asks for (see
  `metrics/geneval.py`). `geneval` is the mean over the categories of the share
  that is correct, `geneval_counting` and so on are these shares; `prompts` is
  how many different prompts there are.

  Args:
    models: role -> model.
    source: of the prompts; captioned shapes, for which images can be checked.
    features: not used.
    folder: not used.
    sweep: role -> list of [sampler, nfe, options], see sweep.py.
    samples: number of examples that are drawn, enough for every category.
    seed: of their noise.

  Raises:
    ValueError: if the data have no prompts, or an option is out of range.
  """
  del features, folder
  entries = parse_sweep(sweep, models)
  if samples < 1:
    raise ValueError(f'samples = {samples} must be at least {len(TAGS)}')
  prompts = source.prompts(np.arange(samples) % len(source))
  if prompts is None or source.detect is None:
    raise ValueError(
      'geneval needs data with prompts and a detector: set evaluation.dataset '
      "to the data set 'shapes'"
    )
  if missing := [t for t in TAGS if t not in {p.tag for p in prompts}]:
    raise ValueError(
      f'samples = {samples} must be larger: none of them is of {missing[0]!r}'
    )
  return _rows(models, source, prompts, entries, seed)


def _rows(
  models: Models,
  source: Data,
  prompts: Sequence[Prompt],
  entries: list[SweepEntry],
  seed: int,
) -> Iterator[Row]:
  n, detect = len(prompts), source.detect
  assert detect is not None
  cond = conditions(source, n)
  for each in entries:
    entry, x, ms = draw_timed(models, each, n, cond, seed)
    pairs = zip(prompts, x, strict=True)
    correct = [judge(prompt, detect(one)).correct for prompt, one in pairs]
    yield {
      **entry.columns(),
      'samples': n,
      'prompts': len({prompt.text for prompt in prompts}),
      'seed': seed,
      'reference': source.title,
      **columns([prompt.tag for prompt in prompts], correct),
      'ms_per_image': ms,
    }


def columns(tags: Sequence[str], correct: Sequence[bool]) -> dict[str, float]:
  """The columns of a row: `geneval`, and one for each category."""
  shares = scores(tags, correct)
  overall = shares.pop('overall')
  return {NAME: overall, **{f'{NAME}_{t}': v for t, v in shares.items()}}
