"""The grid of samples where none is given: that of the stage that trained."""

import pathlib

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Sampling
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.pairing import solver_options

GRID = {'name': 'uniform', 'start': 0.9}
DIGITS = tiny.CONFIGS / 'slimflow' / 'digits32.py'


def blueprints(source, *overrides):
  stages = tiny.stages(source, *overrides)
  return Blueprints(stages, pathlib.Path('nowhere'), recorded=False)


def test_a_frozen_role_has_the_grid_of_its_own_stage():
  of = blueprints(tiny.TOY, f'stages.flow.evaluation.grid={GRID}')
  assert of['flow'].grid('student') == GRID
  assert of['distil'].grid('teacher') == GRID
  assert of['distil'].grid('student') == 'uniform'


def test_pairs_are_drawn_on_the_grid_of_their_teacher():
  of = blueprints(DIGITS, f'stages.flow.evaluation.grid={GRID}')
  assert solver_options(of['pairs']) == {'grid': GRID}
  typed = blueprints(
    DIGITS,
    f'stages.flow.evaluation.grid={GRID}',
    "stages.pairs.options={'grid': 'uniform', 'rtol': 0.1}",
  )
  assert solver_options(typed['pairs']) == {'grid': 'uniform', 'rtol': 0.1}
  # Without it manifests are what they were.
  assert solver_options(blueprints(DIGITS)['pairs']) == {}


def test_a_typed_grid_is_told_from_none():
  assert Sampling().how() == {}
  assert Sampling(grid='uniform').how() == {'grid': 'uniform'}


@pytest.mark.parametrize(
  ('grid', 'message'),
  [
    ('unifrom', "evaluation.grid = 'unifrom' does not exist; did you mean"),
    ("{'name': 'uniform', 'strat': 1}", "uniform takes no 'strat'"),
  ],
)
def test_a_grid_that_does_not_exist_is_refused(tmp_path, grid, message):
  stages = tiny.stages(tiny.TOY, f'stages.flow.evaluation.grid={grid}')
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(stages, tmp_path)
