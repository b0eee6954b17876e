"""What methods have measured: which rows are whose, medians, the table."""

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.figures.markdown import markdown
from flowdistill.figures.methods import Method, Point, choose_metric, gather

FROM_FLOW = {'teacher': {'source': 'stage:flow', 'weights': 'ema'}}
STAGES = {
  'flow': {'frozen': {}},
  'emd': {'frozen': FROM_FLOW},
  'emd_seed1': {'frozen': FROM_FLOW},
  'emd_seed22': {'frozen': FROM_FLOW},
}
STEPS = {'flow': 9, 'emd': 5, 'emd_seed1': 5, 'emd_seed22': 5}
COSTS = {'emd': {'forward_passes': 300.0, 'parameters': 7, 'macs': 70}}


def row(model, sampler, nfe, value, **rest):
  what = {'model': model, 'sampler': sampler, 'nfe': nfe, **rest}
  return {**what, 'samples': 5, 'seed': 0, 'frechet_digits': value}


def gathered(rows, stages=None, metric='frechet_digits'):
  """Name -> method."""
  stages = stages or STAGES
  rows = {**dict.fromkeys(stages, ()), **rows}
  return {m.name: m for m in gather(stages, rows, STEPS, COSTS, metric)}


def test_seeds_are_one_method_with_a_median_and_a_range():
  values = {'emd': 4.0, 'emd_seed1': 1.0, 'emd_seed22': 2.0}
  found = gathered(
    {
      stage: [row('student', 'flow_map', 1, v), row('student', 'few', 1, 9.0)]
      for stage, v in values.items()
    }
  )
  assert list(found) == ['emd, flow map', 'emd, few']
  method = found['emd, flow map']
  assert method.points == (Point(1, 2.0, 1.0, 4.0),)
  assert (method.seeds, method.steps, method.teacher) == (3, 5, False)


def test_rows_of_a_teacher_belong_to_the_stage_that_it_comes_from():
  """Whoever measured it; what was measured twice counts once."""
  found = gathered(
    {
      'flow': [row('student', 'euler', 1, 7.0)],
      'emd': [
        row('teacher', 'euler', 1, 8.0),
        row('teacher', 'euler', 2, 6.0),
        row('student', 'flow_map', 1, 2.0),
      ],
    }
  )
  assert list(found) == ['flow (teacher)', 'emd']
  flow = found['flow (teacher)']
  assert [(p.nfe, p.value) for p in flow.points] == [(1, 7.0), (2, 6.0)]
  assert (flow.teacher, flow.steps, flow.seeds) == (True, 9, 1)


def test_the_ways_of_a_method_stand_together():
  found = gathered(
    {
      'flow': [row('student', 'euler', 1, 7.0)],
      'emd': [row('student', 'few', 1, 2.0), row('teacher', 'heun', 3, 5.0)],
    }
  )
  assert list(found) == [
    'flow (teacher), euler',
    'flow (teacher), heun',
    'emd',
  ]


@pytest.mark.parametrize(
  ('origin', 'name'),
  [
    (('runs/big', 'ema'), 'runs/big (teacher)'),
    (('stage:flow', 'early'), 'flow early (teacher)'),
  ],
)
def test_a_teacher_from_elsewhere(origin, name):
  source, weights = origin
  frozen = {'teacher': {'source': source, 'weights': weights}}
  found = gathered(
    {'emd': [row('teacher', 'heun', 3, 1.0)]},
    {'flow': {'frozen': {}}, 'emd': {'frozen': frozen}},
  )
  assert list(found) == [name]
  assert found[name].steps is None


def test_options_and_adaptive_samplers_are_ways_of_their_own():
  found = gathered(
    {
      'emd': [
        row('student', 'gamma', 4, 1.0, options='gamma=0.5'),
        row('student', 'gamma', 4, 2.0, options='gamma=1.0'),
        row('student', 'rk45', 127.0, 3.0, adaptive=True),
      ],
      'emd_seed1': [row('student', 'rk45', 130.5, 5.0, adaptive=True)],
    }
  )
  assert list(found) == [
    'emd, gamma, gamma=0.5',
    'emd, gamma, gamma=1.0',
    'emd, rk45',
  ]
  assert found['emd, rk45'].points == (
    Point(128.75, 4.0, 3.0, 5.0, adaptive=True),
  )


def test_what_is_no_figure_of_samples_is_left_out():
  error = {'model': 'student', 'frechet_digits': 1.0, 'boundary_error': 0.1}
  weak = row('weak', 'euler', 1, 1.0)
  other = {**row('student', 'euler', 1, 1.0), 'energy_distance': 0.5}
  del other['frechet_digits']
  assert gathered({'emd': [error, weak, other]}) == {}
  assert list(gathered({'emd': [other]}, metric='energy_distance')) == ['emd']


def test_points_are_in_order_and_the_cost_is_of_the_stage():
  rows = [row('student', 'few', n, 1.0) for n in (4, 1, 2)]
  found = gathered({'emd': rows})['emd']
  assert [point.nfe for point in found.points] == [1, 2, 4]
  assert (found.forward_passes, found.parameters, found.macs) == (300, 7, 70)


def test_the_first_distance_is_compared_or_what_is_asked_for():
  rows = {
    'a': [{'model': 'student', 't': 0.5, 'boundary_error': 1.0}],
    'b': [row('student', 'few', 1, 1.0), {'energy_distance': 1.0}],
  }
  assert choose_metric(rows, '') == 'frechet_digits'
  fid = {'model': 'student', 'recall_inception': 0.5, 'fid': 2.0}
  assert choose_metric({'a': [fid]}, '') == 'fid'
  assert choose_metric(rows, 'boundary_error') == 'boundary_error'
  with pytest.raises(ConfigError, match='--metric=energy was.*did you mean'):
    choose_metric(rows, 'energy')
  with pytest.raises(ConfigError, match='--metric=nfe was measured by no stag'):
    choose_metric(rows, 'nfe')
  with pytest.raises(ConfigError, match='Fréchet or energy distance; set'):
    choose_metric({'a': rows['a']}, '')


def test_the_table():
  methods = [
    Method('flow', True, (Point(31, 1.1, 1.1, 1.1),), steps=9),
    Method('a', False, (Point(1, 3.0, 2.0, 4.0), Point(2, 2.0, 1.5, 2.5)), 3),
    Method('b', False, (Point(1, 2.5, 2.5, 2.5), Point(7.5, 1, 1, 1, True))),
  ]
  assert markdown(methods, 'frechet_digits').splitlines() == [
    '# frechet_digits over NFE',
    '',
    '| method | NFE 1 | NFE 2 | best | at NFE | seeds | steps |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    '| flow |  |  | 1.10 | 31 | 1 | 9 |',
    '| a | 3.00 (2.00–4.00) | **2.00** (1.50–2.50) | 2.00 | 2 | 3 |  |',
    '| b | **2.50** |  | **1.00** | 7.5 | 1 |  |',
  ]
  cost = Method('c', False, methods[1].points, forward_passes=1234567.0)
  line = markdown([cost], 'frechet_digits').splitlines()[-1]
  assert line.endswith('| 1,234,567 |')
  size = Method('d', False, methods[1].points, parameters=5432, macs=98765)
  heading, _, line = markdown([size], 'frechet_digits').splitlines()[-3:]
  assert heading.endswith('| steps | parameters | MACs |')
  assert line.endswith('| 5,432 | 98,765 |')


def test_what_is_marked_and_measured_otherwise_stands_below_the_table():
  rows = [row('student', 'few', 1, 1.0, trained_on='vgg16')]
  other = {**row('student', 'few', 1, 2.0), 'samples': 50}
  found = gathered({'emd': rows, 'flow': [other]})
  assert found['emd'].points[0].trained_on == 'vgg16'
  text = markdown(list(found.values()), 'frechet_digits')
  assert '| **1.00†** |' in text and '| 2.00 |' in text
  assert '\n† The feature network' in text
  assert (
    'Not all figures were measured alike: samples = 50 (flow (teacher)) and '
    '5 (emd).' in text
  )
  assert '†' not in markdown([found['flow (teacher)']], 'frechet_digits')


def test_a_bias_is_not_compared():
  rows = {'a': [{'frechet_x_bias': 0.5, **row('student', 'few', 1, 1.0)}]}
  rows['a'][0] |= {'frechet_x': 2.0, 'frechet_x_spread': 0.5}
  assert choose_metric(rows, '') == 'frechet_digits'
  for end in ('bias', 'spread'):
    with pytest.raises(ConfigError, match='was measured by no stage'):
      choose_metric(rows, f'frechet_x_{end}')
