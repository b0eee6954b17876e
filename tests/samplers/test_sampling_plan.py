"""How many steps a number of calls is."""

import numpy as np
import pytest

from flowdistill.samplers.guided import interval
from flowdistill.samplers.sampling_plan import make_plan, steps_for


def steps(sampler, nfe, guidance=None, options=None, **how):
  how['guidance'] = interval(guidance)
  plan = make_plan(sampler, nfe, options or {}, **how)
  return len(plan.times) - 1


@pytest.mark.parametrize(
  ('sampler', 'nfe', 'wanted'),
  [('euler', 8, 8), ('heun', 7, 4), ('rk4', 12, 3), ('few', 2, 2)],
)
def test_steps_that_cost_so_many_calls(sampler, nfe, wanted):
  assert steps(sampler, nfe) == wanted


def test_the_options_of_a_sampler_are_counted():
  assert steps('mul', 7, options={'order': 2}) == 4
  both = {'order': 2, 'correct_last': True}
  assert steps('mul', 8, options=both) == 4


def test_backwards_the_grid_rises_and_heun_corrects_every_step():
  plan = make_plan('heun', 8, {}, grid='shifted', backwards=True)
  np.testing.assert_allclose(plan.times, [0, 0.5, 0.75, 0.9, 1])
  there = make_plan('euler', 3, {}, grid='karras')
  back = make_plan('euler', 3, {}, grid='karras', backwards=True)
  np.testing.assert_array_equal(back.times, there.times[::-1])


def test_guided_calls_count_twice():
  assert steps('euler', 8, guidance=2.0) == 4
  middle = {'scale': 2.0, 'low': 0.3, 'high': 0.8}
  # 1, 0.75, 0.5, 0.25, and of 1, 0.9, 0.75, 0.5 the same two
  assert steps('euler', 6, guidance=middle) == 4
  assert steps('euler', 6, guidance=middle, grid='shifted') == 4
  assert steps('euler', 3, guidance=middle, grid='shifted') == 2
  # the ends are inside
  ends = {'scale': 2.0, 'low': 0.5, 'high': 0.75}
  assert steps('euler', 6, guidance=ends) == 4


@pytest.mark.parametrize(
  ('sampler', 'nfe', 'nearest'),
  [
    ('heun', 8, 'are 7 and 9'),
    ('rk4', 10, 'are 8 and 12'),
    ('rk4', 3, 'is 4'),
    ('euler', 0, 'is 1'),
    ('flow_map', -3, 'is 1'),
  ],
)
def test_an_impossible_nfe_names_the_nearest(sampler, nfe, nearest):
  message = (
    f'^nfe = {nfe} is not possible for {sampler}; the nearest {nearest}$'
  )
  with pytest.raises(ValueError, match=message):
    make_plan(sampler, nfe, {})


def test_an_impossible_nfe_with_guidance_and_on_a_grid_that_is_listed():
  with pytest.raises(ValueError, match=r'^nfe = 7 .*nearest are 6 and 8$'):
    make_plan('euler', 7, {}, guidance=interval(2.0))
  grid = {'name': 'explicit', 'times': (1, 0.4, 0)}
  with pytest.raises(ValueError, match=r'^nfe = 5 .*nearest is 3$'):
    make_plan('heun', 5, {}, grid=grid)
  with pytest.raises(ValueError, match=r'^nfe = 1 .*nearest is 3$'):
    make_plan('heun', 1, {}, grid=grid)


def test_steps_need_not_cost_ever_more():
  costs = {1: 1, 2: 4, 3: 3, 4: 6, 5: 5}
  assert steps_for('mine', costs.__getitem__, 3) == 3
  with pytest.raises(ValueError, match=r'for mine; the nearest are 1 and 3$'):
    steps_for('mine', costs.__getitem__, 2)
