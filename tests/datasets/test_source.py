"""A source in memory: examples by index, and arrays that match its spec."""

import numpy as np
import pytest

from flowdistill.datasets.source import Source
from flowdistill.flow.spec import Condition, DataSpec

X0 = np.arange(12, dtype=np.float32).reshape(6, 2)
LABEL = np.arange(6, dtype=np.int32) % 3
TEXT = np.arange(6 * 7 * 16, dtype=np.float32).reshape(6, 7, 16)
MASK = np.arange(6 * 7).reshape(6, 7) % 3 > 0
POINTS, LABELLED = DataSpec((2,)), DataSpec.labelled((2,), 3)
CAPTIONED = DataSpec(
  (2,),
  {'text': Condition((7, 16)), 'mask': Condition((7,), 'bool', False)},
)


def test_one_example_and_a_batch():
  source = Source(LABELLED, {'x0': X0, 'label': LABEL})
  assert len(source) == 6
  assert source[4]['x0'].tolist() == [8, 9]
  assert source[4]['label'] == 1
  batch = source[np.array([5, 0])]
  assert batch['x0'].tolist() == [[10, 11], [0, 1]]
  assert batch['label'].tolist() == [2, 0]


def test_conditions_are_those_of_the_spec():
  arrays = {'x0': X0, 'text': TEXT, 'mask': MASK, 'nfe': LABEL}
  cond = Source(CAPTIONED, arrays).conditions(np.array([5, 0]))
  assert cond.keys() == {'text', 'mask'}
  np.testing.assert_array_equal(cond['text'], TEXT[[5, 0]])
  np.testing.assert_array_equal(cond['mask'], MASK[[5, 0]])
  assert Source(POINTS, {'x0': X0}).conditions(np.arange(6)) == {}


def test_take_keeps_every_array_in_step():
  noise = np.ones((6, 2), np.float32)
  source = Source(LABELLED, {'x0': X0, 'label': LABEL, 'x1': noise})
  taken = source.take(np.array([1, 2]))
  assert taken.spec == LABELLED
  assert {k: v.shape for k, v in taken.arrays.items()} == {
    'x0': (2, 2),
    'label': (2,),
    'x1': (2, 2),
  }


WIDE = TEXT.astype(np.float64)


@pytest.mark.parametrize(
  ('spec', 'arrays', 'message'),
  [
    (POINTS, {}, 'x0 must be an array of at least one'),
    (POINTS, {'x0': X0[:0]}, 'x0 must be an array of at least one'),
    (POINTS, {'x0': X0.astype(int)}, r'x0 = int64 \[6, 2\] must be float32'),
    (POINTS, {'x0': X0[:, :1]}, r'\[6, 1\] must be float32 \[6, 2\]'),
    (LABELLED, {'x0': X0}, r'label is missing; it must be int32 \[6\]'),
    (LABELLED, {'x0': X0, 'label': LABEL.astype(int)}, 'label = int64'),
    (LABELLED, {'x0': X0, 'label': LABEL[:5]}, r'\[5\] must be int32 \[6\]'),
    (POINTS, {'x0': X0, 'x1': X0[:5]}, r'x1 = .* must be \[6, ...\]'),
    (CAPTIONED, {'x0': X0, 'text': TEXT}, r'mask is missing; .* bool \[6, 7\]'),
    (
      CAPTIONED,
      {'x0': X0, 'text': WIDE, 'mask': MASK},
      r'text = float64 \[6, 7, 16\] must be float32 \[6, 7, 16\]',
    ),
    (
      CAPTIONED,
      {'x0': X0, 'text': TEXT[:, :, :8], 'mask': MASK},
      r'text = float32 \[6, 7, 8\] must be float32 \[6, 7, 16\]',
    ),
  ],
)
def test_wrong_arrays_are_refused(spec, arrays, message):
  with pytest.raises(ValueError, match=f'source: .*{message}'):
    Source(spec, arrays)
