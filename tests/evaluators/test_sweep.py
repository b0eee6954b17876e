"""Reading a sweep, and placing its entries in a picture."""

import time

import numpy as np
import pytest
from evaluators.fakes import Replay, digits, points

from flowdistill.evaluators.sweep import (
  SWEEP,
  SweepEntry,
  conditions,
  draw,
  draw_timed,
  format_options,
  grid_cells,
  parse_sweep,
)

E1, E2, E8 = (SweepEntry('teacher', 'euler', n) for n in (1, 2, 8))
F1, F2 = (SweepEntry('student', 'flow_map', n) for n in (1, 2))


@pytest.mark.parametrize('pair', [tuple, list])
def test_entries_are_in_the_order_that_is_written(pair):
  sweep = {
    'student': pair([pair(['flow_map', 2]), pair(['flow_map', 1])]),
    'teacher': pair([pair(['euler', 8])]),
  }
  assert parse_sweep(sweep, ['teacher', 'student']) == [F2, F1, E8]


def test_the_default_is_the_table_of_the_quickstart():
  entries = parse_sweep(SWEEP, ['student', 'teacher'])
  assert [str(entry) for entry in entries] == [
    'euler 1 NFE',
    'euler 2 NFE',
    'euler 4 NFE',
    'euler 8 NFE',
    'heun 31 NFE',
    'flow map 1 NFE',
    'flow map 2 NFE',
    'flow map 4 NFE',
    'flow map 8 NFE',
  ]


@pytest.mark.parametrize(
  ('sweep', 'message'),
  [
    (
      {'weak': [['euler', 1]]},
      r"the role 'weak'; it must be one of \['teacher', 'student'\]",
    ),
    ({}, 'sweep = {} must have entries, like'),
    ({'student': []}, "sweep = {'student': .*} must have entries"),
    ({'student': [['euler']]}, r"sweep\['student'\] has \['euler'\]; it must"),
    ({'student': ['euler', 4]}, r"has 'euler'; it must be \[sampler, nfe\]"),
    ({'student': [['euler', 0]]}, r"has \['euler', 0\]"),
    ({'student': [['euler', 1.5]]}, r"has \['euler', 1.5\]"),
    ({'student': [['euler', True]]}, r"has \['euler', True\]"),
    ({'student': [[4, 'euler']]}, r"has \[4, 'euler'\]"),
    ({'student': [['gamma', 1, 'gamma=1']]}, r"\['gamma', 1, 'gamma=1'\]; it"),
    (
      {'student': [['gamma', 1, {}, {}]]},
      r"has \['gamma', 1, {}, {}\]; it must",
    ),
    ({'student': [['gamma', 1, {'nfe': 2}]]}, r"has .*{'nfe': 2}\]; it must"),
    ({'student': 5}, r"sweep\['student'\] = 5 must be a list"),
  ],
)
def test_bad_sweeps_are_refused(sweep, message):
  with pytest.raises(ValueError, match=message):
    parse_sweep(sweep, ['teacher', 'student'])


def test_a_sweep_has_the_name_of_its_option():
  with pytest.raises(ValueError, match="^reference has the role 'weak'"):
    parse_sweep({'weak': [['euler', 1]]}, ['teacher'], option='reference')


OPTIONS = {
  'gamma': 0.5,
  'grid': {'name': 'shifted', 'shift': 2},
  'guidance': {'scale': 1.5, 'low': 0.2},
}


def test_an_entry_may_have_options():
  sweep = {'student': [['gamma', 4, OPTIONS], ['heun', 3, {}]]}
  gamma, heun = parse_sweep(sweep, ['student'])
  spelled = 'gamma=0.5, grid=shifted(shift=2), guidance=1.5(low=0.2)'
  assert str(gamma) == f'gamma 4 NFE ({spelled})'
  assert gamma.columns() == {
    'model': 'student',
    'sampler': 'gamma',
    'nfe': 4,
    'options': spelled,
  }
  assert (str(heun), 'options' in heun.columns()) == ('heun 3 NFE', False)
  assert (
    format_options({'grid': 'karras', 'guidance': 2})
    == 'grid=karras, guidance=2'
  )


def test_a_model_is_given_the_options():
  model = Replay(np.zeros((3, 2)))
  (entry,) = parse_sweep({'student': [['gamma', 4, OPTIONS]]}, ['student'])
  drawn, _ = draw({'student': model}, entry, 3, {}, seed=1)
  assert model.calls[-1]['options'] == OPTIONS
  assert drawn == entry


def test_a_row_names_the_grid_of_its_model_unless_it_is_plain():
  grid = {'name': 'uniform', 'start': 0.999}
  model = Replay(np.zeros((3, 2)))
  model.defaults = {'grid': grid}
  own, typed = parse_sweep(
    {'student': [['euler', 4], ['euler', 4, {'grid': 'karras'}]]}, ['student']
  )
  drawn, _ = draw({'student': model}, own, 3, {}, seed=1)
  assert drawn.columns()['options'] == 'grid=uniform(start=0.999)'
  assert model.calls[-1]['options'] == {'grid': grid}
  drawn, _ = draw({'student': model}, typed, 3, {}, seed=1)
  assert drawn.columns()['options'] == 'grid=karras'
  plain, _ = draw({'student': Replay(np.zeros((3, 2)))}, own, 3, {}, seed=1)
  assert 'options' not in plain.columns()


def test_an_adaptive_sampler_is_measured():
  """Its NFE is the mean over the examples, whole if that is."""
  model = Replay(np.zeros((4, 2)))
  (entry,) = parse_sweep({'teacher': [['rk45', None]]}, ['teacher'])
  assert str(entry) == 'rk45 adaptive'
  drawn, _ = draw({'teacher': model}, entry, 4, {}, seed=0)
  assert model.calls[-1]['nfe'] is None
  assert drawn.columns() == {
    'model': 'teacher',
    'sampler': 'rk45',
    'nfe': 2.5,
    'adaptive': True,
  }
  one, _ = draw({'teacher': model}, entry, 1, {}, seed=0)
  assert (one.nfe, type(one.nfe)) == (2, int)


def test_entries_of_one_nfe_are_level():
  assert grid_cells([E1, E2, E8, F2, F1]) == [
    (0, 0),
    (1, 0),
    (2, 0),
    (1, 1),
    (0, 1),
  ]


def test_a_second_entry_of_one_nfe_stands_below():
  gamma = SweepEntry('student', 'gamma', 1)
  assert grid_cells([E1, E2, F1, gamma, F2]) == [
    (0, 0),
    (2, 0),
    (0, 1),
    (1, 1),
    (2, 1),
  ]


def test_conditions_have_the_balance_of_the_data():
  source = digits()
  label = conditions(source, 2 * 1797 + 3)['label']
  assert (label.shape, label.dtype) == ((3597,), np.int32)
  np.testing.assert_array_equal(label[1797:3594], source.arrays['label'])
  np.testing.assert_array_equal(label[:3], label[-3:])
  assert conditions(points(), 5) == {}


class Compiling(Replay):
  """Slow the first time."""

  def __call__(self, n, **how):
    time.sleep(0.01 if self.calls else 0.5)
    return super().__call__(n, **how)


def test_a_model_is_timed_when_it_is_warm():
  x0 = np.arange(3, dtype=np.float32)[:, None]
  model, cond = Compiling(x0), {'label': np.array([1, 2, 0])}
  entry, x, ms = draw_timed({'student': model}, F2, 3, cond, seed=7)
  assert entry == F2
  np.testing.assert_array_equal(x, x0)
  assert 10 <= 3 * ms < 400
  first, second = model.calls
  assert (first['n'], second['n']) == (1, 3)
  assert first['cond']['label'].tolist() == [1]
  assert second['cond'] is cond
  assert (second['sampler'], second['nfe'], second['seed']) == (
    'flow_map',
    2,
    7,
  )
