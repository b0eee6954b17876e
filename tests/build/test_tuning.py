import pytest

from flowdistill.build.sampling_plan import plan_sampling
from flowdistill.build.tuning import GAMMA, JUMP, TRIED, ways
from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Samplings
from flowdistill.flow.spec import DataSpec

POINTS = DataSpec((2,))
CLASSES = DataSpec.labelled((2,), 3)


def tried(given, *knobs, spec=CLASSES, scalars=()):
  def plan(way):
    return plan_sampling(
      way.sampler, way.nfe, way.how(), spec=spec, scalars=scalars
    )

  return [(w.sampler, w.nfe, w.how()) for w in ways(given, knobs, plan)]


def test_each_nfe_has_each_gamma_once():
  found = tried(Samplings(), 'nfe', 'gamma')
  at_two = [(JUMP, {}), *((GAMMA, {GAMMA: g}) for g in TRIED['gamma'] if g)]
  assert [(s, o) for s, nfe, o in found if nfe == 1] == [(JUMP, {})]
  for nfe in (2, 4, 8):
    assert [(s, o) for s, n, o in found if n == nfe] == at_two


def test_what_two_calls_a_step_cannot_do_is_left_out():
  found = tried(Samplings(), 'nfe', 'guidance')
  scales = {
    nfe: [o.get('guidance') for _, n, o in found if n == nfe]
    for nfe in TRIED['nfe']
  }
  assert scales.pop(1) == [None]
  assert all(found == [*TRIED['guidance']] for found in scales.values())


def test_a_student_of_the_scale_is_guided_at_one_call():
  found = tried(Samplings(nfe=(1,)), 'guidance', scalars=('guidance',))
  assert [o.get('guidance') for *_, o in found] == [*TRIED['guidance']]


def test_one_value_that_is_given_is_tried_alone():
  given = Samplings(nfe=(3,), options=({GAMMA: 0.4},))
  assert tried(given, 'nfe', 'gamma') == [(GAMMA, 3, {GAMMA: 0.4})]


def test_values_that_are_given_are_tried_in_place_of_ours():
  given = Samplings(
    nfe=(3, 5), guidance=(1.1, 1.2), options=({GAMMA: 0.1}, {GAMMA: 0.2})
  )
  found = tried(given, *TRIED, scalars=('guidance',))
  assert len(found) == 8
  assert {nfe for _, nfe, _ in found} == {3, 5}
  assert {o[GAMMA] for *_, o in found} == {0.1, 0.2}
  assert {o['guidance'] for *_, o in found} == {1.1, 1.2}


def test_other_lists_stay():
  given = Samplings(grid=('uniform', 'shifted'))
  assert len(tried(given, 'nfe')) == 2 * len(TRIED['nfe'])


@pytest.mark.parametrize(
  ('given', 'knobs', 'kind', 'message'),
  [
    (Samplings(), ['gama'], ConfigError, "no knob; did you mean 'gamma'"),
    (
      Samplings(sampler=('euler',)),
      ['gamma'],
      ConfigError,
      'must be with --sampler=gamma, not euler',
    ),
    (Samplings(sampler=('heun',)), ['guidance'], ValueError, 'nfe = 4'),
    (Samplings(nfe=(None,)), ['gamma'], ConfigError, 'numbers in --nfe'),
    (Samplings(nfe=(1,)), ['guidance'], ValueError, 'nfe = 1'),
    (Samplings(grid=('uniform', 'typo')), ['gamma'], ValueError, "'typo'"),
    (
      Samplings(sampler=('flow_map', 'eulerr')),
      ['nfe'],
      ValueError,
      "'eulerr' does not exist",
    ),
    (
      Samplings(options=({GAMMA: 0.1}, {'gama': 0.2})),
      ['gamma'],
      ValueError,
      "takes no 'gama'",
    ),
  ],
)
def test_what_cannot_be_tuned_is_refused(given, knobs, kind, message):
  with pytest.raises(kind, match=message):
    tried(given, *knobs)


def test_guidance_is_not_tuned_without_conditions():
  with pytest.raises(ValueError, match='has no conditions'):
    tried(Samplings(), 'guidance', spec=POINTS)
