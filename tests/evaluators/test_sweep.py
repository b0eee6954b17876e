"""Reading a sweep, and placing its entries in a picture."""

import time

import numpy as np
import pytest
from evaluators.fakes import Replay, digits, points

from flowdistill.evaluators.sweep import (
  SWEEP,
  Cell,
  cells,
  conditions,
  draw_timed,
  places,
)

E1, E2, E8 = (Cell('teacher', 'euler', n) for n in (1, 2, 8))
F1, F2 = (Cell('student', 'flow_map', n) for n in (1, 2))


@pytest.mark.parametrize('pair', [tuple, list])
def test_cells_are_in_the_order_that_is_written(pair):
  sweep = {
    'student': pair([pair(['flow_map', 2]), pair(['flow_map', 1])]),
    'teacher': pair([pair(['euler', 8])]),
  }
  assert cells(sweep, ['teacher', 'student']) == [F2, F1, E8]


def test_the_default_is_the_table_of_the_quickstart():
  found = cells(SWEEP, ['student', 'teacher'])
  assert [str(cell) for cell in found] == [
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
      r"the role 'weak', the roles there are: \['teacher', 'student'\]",
    ),
    ({}, 'sweep = {} is empty'),
    ({'student': []}, "sweep = {'student': .*} is empty"),
    ({'student': [['euler']]}, r"sweep\['student'\] has \['euler'\], it must"),
    ({'student': ['euler', 4]}, r"has 'euler', it must be \[sampler, nfe\]"),
    ({'student': [['euler', 0]]}, r"has \['euler', 0\]"),
    ({'student': [['euler', 1.5]]}, r"has \['euler', 1.5\]"),
    ({'student': [['euler', True]]}, r"has \['euler', True\]"),
    ({'student': [[4, 'euler']]}, r"has \[4, 'euler'\]"),
    ({'student': 5}, r"sweep\['student'\] = 5, it must be a list"),
  ],
)
def test_bad_sweeps_are_refused(sweep, message):
  with pytest.raises(ValueError, match=message):
    cells(sweep, ['teacher', 'student'])


def test_entries_of_one_nfe_are_level():
  assert places([E1, E2, E8, F2, F1]) == [
    (0, 0),
    (1, 0),
    (2, 0),
    (1, 1),
    (0, 1),
  ]


def test_a_second_entry_of_one_nfe_stands_below():
  gamma = Cell('student', 'gamma', 1)
  assert places([E1, E2, F1, gamma, F2]) == [
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
  x, ms = draw_timed({'student': model}, F2, 3, cond, seed=7)
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
