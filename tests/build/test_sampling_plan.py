"""What a user may ask of a sampler, and what each mistake is answered with."""

import pytest

from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.flow.spec import DataSpec
from flowdistill.samplers.guided import Interval

LABELLED = DataSpec.labelled((2,), 10)
PLAIN = DataSpec((2,))


def plan(sampler, nfe, spec=LABELLED, scalars=(), backwards=False, **given):
  return plan_sampling(
    sampler, nfe, given, spec=spec, scalars=scalars, backwards=backwards
  )


def test_a_plan_has_all_that_was_asked_for():
  grid = {'name': 'shifted', 'shift': 3.0}
  made = plan('gamma', 8, gamma=0.25, grid=grid, guidance=2.0)
  assert (made.sampler, made.nfe) == ('gamma', 8)
  assert made.options == (('gamma', 0.25),)
  assert made.guidance == Interval(2.0)
  assert made.scalars == {}
  assert made.times.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0])
  back = plan('euler', 4, grid=grid, backwards=True)
  assert back.times.tolist() == made.times.tolist()[::-1]
  assert back.guidance is None


def test_a_network_that_is_conditioned_on_guidance_is_called_once():
  made = plan('euler', 3, PLAIN, ('guidance', 'speed'), guidance=2.0)
  assert made.guidance is None
  assert made.scalars == {'guidance': 2.0}
  assert len(made.times) == 4
  assert plan('euler', 3, PLAIN, ('guidance',)).scalars == {'guidance': 1.0}
  assert plan('euler', 3, PLAIN, ('speed',)).scalars == {}


NO_NAME = "^grid = '' does not exist; "
WRONG = [
  (('eular', 8), {}, "^sampler = 'eular' does not exist; did you mean 'euler'"),
  ((['euler'], 8), {}, r"^sampler = \['euler'\] does not exist; "),
  (('gamma', 8), {'gama': 1.0}, "^gamma takes no 'gama'; did you mean 'gamma'"),
  (('gamma', 8), {'name': 'euler'}, "^gamma takes no 'name'; "),
  (('gamma', 8), {'gamma': 'a'}, r"^gamma = 'a' \(str\) must"),
  (('gamma', 8), {'gamma': 2.0}, r'^gamma = 2.0 must lie in \[0, 1\]'),
  (('euler', None), {}, "^nfe = None must be an integer for 'euler'"),
  (('euler', '4'), {}, "^nfe = '4' must be an integer for 'euler'"),
  (('rk45', 8), {}, "^nfe = 8 must be None for 'rk45'"),
  (('heun', 4), {}, '^nfe = 4 is not possible for heun; .* are 3 and 5$'),
  (('euler', 3), {'guidance': 2.0}, '^nfe = 3 is not .* are 2 and 4$'),
  (
    ('euler', 8),
    {'grid': 'shfted'},
    "^grid = 'shfted' does not exist; did you mean",
  ),
  (('euler', 8), {'grid': {'shift': 3.0}}, NO_NAME),
  (('euler', 8), {'grid': 3}, '^grid = 3 must be a name, or a dict like'),
  (
    ('euler', 8),
    {'grid': {'name': 'shifted', 'shft': 3.0}},
    "^shifted takes no 'shft'; did you mean 'shift'",
  ),
  (
    ('euler', 8),
    {'grid': {'name': 'shifted', 'shift': 0.0}},
    '^shift = 0.0 must be above 0',
  ),
  # Two times may be one in float32: then there is no step between them.
  (
    ('euler', 8),
    {'grid': {'name': 'logit_normal', 'std': 60.0}},
    '^grid = .* must fall in 8 steps',
  ),
  (
    ('euler', 8),
    {'grid': {'name': 'karras', 'sigma_max': 1e9}},
    '^grid = .* must fall in 8 steps',
  ),
  (('euler', 8), {'guidance': 'strong'}, "^guidance = 'strong' must be a num"),
  (
    ('euler', 8),
    {'guidance': 2.0, 'spec': PLAIN},
    '^guidance = 2.0 must be removed: this data set has no conditions',
  ),
  (
    ('euler', 8),
    {'guidance': {'scale': 2.0, 'low': 0.5}, 'scalars': ('guidance',)},
    '^guidance = .* must have low = 0.0 and high = 1.0: this network is cond',
  ),
]


@pytest.mark.parametrize(('how', 'given', 'message'), WRONG)
def test_what_cannot_be_run(how, given, message):
  with pytest.raises(ValueError, match=message):
    plan(*how, **given)


@pytest.mark.parametrize('sampler', ['gamma', 'flow_map', 'few', 'mul'])
def test_samplers_that_add_noise_or_jump_do_not_go_backwards(sampler):
  with pytest.raises(ValueError, match=f"^sampler = '{sampler}' must be a sol"):
    plan(sampler, 8, backwards=True)


def test_a_rising_grid_is_checked_too():
  grid = {'name': 'karras', 'sigma_max': 1e9}
  with pytest.raises(ValueError, match=r'^grid = .* must fall in 4 steps'):
    plan('euler', 4, grid=grid, backwards=True)


def away(sampler, nfe, answers='average', weak='velocity', scale=1.5):
  given = {'guidance': {'scale': scale, 'against': 'weak'}}
  return plan_sampling(
    sampler,
    nfe,
    given,
    spec=PLAIN,
    answers=answers,
    guides=lambda: {'weak': weak},
  )


@pytest.mark.parametrize(
  'sampler', ['flow_map', 'gamma', 'jump_renoise', 'consistency', 'few', 'any']
)
def test_an_average_velocity_is_not_led_away_from_a_velocity(sampler):
  wanted = rf"^sampler = '{sampler}' must be a solver of the ODE, such as heun,"
  why = 'was trained to answer velocities alone$'
  with pytest.raises(ValueError, match=f"{wanted} .* 'weak' {why}"):
    away(sampler, 4)
  with pytest.raises(ValueError, match=f'{wanted} .* this network {why}'):
    away(sampler, 4, 'velocity', 'average')
  assert away(sampler, 4, weak='average').against == 'weak'
  assert away(sampler, 4, scale=1.0).guidance is None


@pytest.mark.parametrize('sampler', ['euler', 'rk4', 'mul'])
@pytest.mark.parametrize('answers', ['average', 'velocity'])
def test_what_asks_for_velocities_is_led_away_from_one(sampler, answers):
  assert away(sampler, 8, answers).against == 'weak'


@pytest.mark.parametrize('name', ['spec', 'scalars', 'backwards', 'sampler'])
def test_an_option_that_is_an_argument_of_ours_is_unknown(name):
  with pytest.raises(ValueError, match=f"^euler takes no '{name}'"):
    plan_sampling('euler', 2, {name: True}, spec=LABELLED)
