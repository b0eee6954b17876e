"""How a network learns."""

import pytest

from flowdistill.build.learning import answer_of
from flowdistill.build.tables import resolve_stage
from flowdistill.objectives import OBJECTIVES

ALWAYS = {'name': 'sorted_uniform', 'instant': 1.0}


def answer(objective):
  spec = {
    'dataset': 'moons',
    'network': 'mlp',
    'objective': objective,
    'train': {'steps': 1},
  }
  return answer_of(resolve_stage(spec)['objective'])


def test_a_rectified_flow_answers_velocities_alone():
  found = {name for name in OBJECTIVES if answer(name) == 'velocity'}
  assert found == {'rectified_flow'}


@pytest.mark.parametrize(
  ('objective', 'wanted'),
  [
    ({'name': 'mean_flow', 'times': ALWAYS}, 'velocity'),
    ({'name': 'mean_flow', 'times': {**ALWAYS, 'instant': 0.9}}, 'average'),
    ({'name': 'adversarial', 'base': 'ayf_emd'}, 'average'),
    ({'name': 'adversarial', 'base': 'rectified_flow'}, 'velocity'),
  ],
)
def test_it_is_that_of_the_times_and_of_the_base(objective, wanted):
  assert answer(objective) == wanted
