"""How many steps a number of calls is, and what cannot be run."""

import numpy as np
import pytest

from flowdistill.samplers.plan import make_plan, steps_for


def steps(sampler, nfe, guidance=None, options=None, **how):
  plan = make_plan(sampler, nfe, options or {}, guidance=guidance, **how)
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
    ('heun', 8, '7 or 9'),
    ('rk4', 10, '8 or 12'),
    ('rk4', 3, '4'),
    ('euler', 0, '1'),
    ('flow_map', -3, '1'),
  ],
)
def test_an_impossible_nfe_names_the_nearest(sampler, nfe, nearest):
  with pytest.raises(ValueError, match=f'nfe is {nfe},.*nearest is {nearest}$'):
    make_plan(sampler, nfe, {})


def test_an_impossible_nfe_with_guidance_and_on_a_grid_that_is_listed():
  with pytest.raises(ValueError, match=r'nfe is 7,.*nearest is 6 or 8$'):
    make_plan('euler', 7, {}, guidance=2.0)
  grid = {'name': 'explicit', 'times': (1, 0.4, 0)}
  with pytest.raises(ValueError, match=r'nfe is 5,.*nearest is 3$'):
    make_plan('heun', 5, {}, grid=grid)
  with pytest.raises(ValueError, match=r'nfe is 1,.*nearest is 3$'):
    make_plan('heun', 1, {}, grid=grid)


def test_steps_need_not_cost_ever_more():
  costs = {1: 1, 2: 4, 3: 3, 4: 6, 5: 5}
  assert steps_for(costs.__getitem__, 3) == 3
  with pytest.raises(ValueError, match=r'nearest is 1 or 3$'):
    steps_for(costs.__getitem__, 2)


@pytest.mark.parametrize(
  ('how', 'message'),
  [
    (('eular', 8), "sampler is 'eular', the choices are .*'euler'"),
    (('euler', None), "nfe = None must be a number of calls for 'euler'"),
    (('rk45', 8), "nfe = 8 must be None for 'rk45'"),
  ],
)
def test_what_cannot_be_run(how, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    make_plan(*how, {})


@pytest.mark.parametrize(
  ('grid', 'message'),
  [
    ('log', "grid is 'log', the choices are .*'uniform'"),
    ({'shift': 3.0}, "grid is '', the choices are"),
    ({'name': 'logit_normal', 'std': 60.0}, 'grid = .*must fall in 8 steps'),
    ({'name': 'karras', 'sigma_max': 1e9}, 'grid = .*must fall in 8 steps'),
  ],
)
def test_grids_that_cannot_be_had(grid, message):
  """Two times may be one in float32: then there is no step between them."""
  with pytest.raises(ValueError, match=f'^{message}'):
    make_plan('euler', 8, {}, grid=grid)


def test_what_adds_noise_or_jumps_does_not_go_backwards():
  for sampler in ('gamma', 'flow_map', 'few', 'mul'):
    with pytest.raises(ValueError, match=f"^sampler = '{sampler}' must be a"):
      make_plan(sampler, 8, {}, backwards=True)
