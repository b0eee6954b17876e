"""A conversion: what is kept of a config, and its check."""

import numpy as np
import pytest
from jobs import tiny

from flowdistill.build.tables import resolve_stage
from flowdistill.stages import conversion
from flowdistill.stages.conversion import compare, measured, neutral

DIGITS = tiny.CONFIGS / 'slimflow' / 'digits32.py'
NCSNPP = {'name': 'ncsnpp', 'nf': 8}


@pytest.mark.parametrize(
  ('exact', 'restored'),
  [
    ([np.nan, 1], [1, 1]),
    ([1, 1], [1, np.nan]),
    ([np.inf, 1], [np.inf, 1]),
    ([1, 1], [1, -np.inf]),
    ([np.nan, 1], [np.nan, 1]),
  ],
)
def test_velocities_that_are_not_finite_fail_the_check(
  monkeypatch, exact, restored
):
  found = {np.float64: np.array(exact), np.float32: np.array(restored)}
  monkeypatch.setattr(conversion, 'velocity', lambda b, p, kind: found[kind])
  with pytest.raises(ValueError, match='largest error .* not finite'):
    with np.errstate(invalid='ignore'):
      compare(None, {}, {})


def test_the_error_and_the_size_of_finite_ones(monkeypatch):
  found = {np.float64: np.array([1.0, -3.0]), np.float32: np.array([1.5, -3.0])}
  monkeypatch.setattr(conversion, 'velocity', lambda b, p, kind: found[kind])
  assert compare(None, {}, {}) == (0.5, 3.0)


def stage(**options):
  spec = tiny.stages(DIGITS)['distilled']
  return {**spec, 'network': NCSNPP, **options}


def test_evaluators_of_the_student_are_kept():
  spec = stage()
  few = spec['evaluators']['few_step']
  sweep = {'student': [['euler', 1]], 'teacher': [['euler', 2]]}
  spec['evaluators'] = {
    'few_step': {**few, 'sweep': sweep},
    'teachers': {**few, 'sweep': {'teacher': [['euler', 2]]}},
  }
  spec['evaluation'] = {
    **spec['evaluation'],
    'schedules': {'few_step': {'steps': 5}, 'teachers': {'steps': 7}},
  }
  kept = measured(spec)
  assert kept['evaluators'] == {
    'few_step': {**few, 'sweep': {'student': [['euler', 1]]}}
  }
  assert list(kept['evaluation']['schedules']) == ['few_step']
  assert kept['evaluation']['features'] == {'name': 'digits'}


def test_without_evaluators_their_options_go():
  spec = stage(evaluators={})
  kept = measured(spec)
  assert kept['evaluation']['features'] is None
  assert resolve_stage(neutral(spec))['evaluators'] == {}


def test_the_grid_of_the_original_unless_the_config_has_one():
  original = {'name': 'uniform', 'start': 0.999}
  assert measured(stage())['evaluation']['grid'] == original
  spec = stage()
  spec['evaluation'] = {**spec['evaluation'], 'grid': 'uniform'}
  assert measured(spec)['evaluation']['grid'] == 'uniform'
