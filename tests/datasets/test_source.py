"""A source: examples by index, and what its arrays must look like."""

import numpy as np
import pytest

from flowdistill.datasets.source import Source

X0 = np.arange(12, dtype=np.float32).reshape(6, 2)
LABEL = np.arange(6, dtype=np.int32) % 3


def test_one_example_and_a_batch():
  source = Source((2,), 3, {'x0': X0, 'label': LABEL})
  assert len(source) == 6
  assert source[4]['x0'].tolist() == [8, 9]
  assert source[4]['label'] == 1
  batch = source[np.array([5, 0])]
  assert batch['x0'].tolist() == [[10, 11], [0, 1]]
  assert batch['label'].tolist() == [2, 0]


def test_take_keeps_every_array_in_step():
  noise = np.ones((6, 2), np.float32)
  source = Source((2,), 3, {'x0': X0, 'label': LABEL, 'x1': noise})
  taken = source.take(np.array([1, 2]))
  assert {k: v.shape for k, v in taken.arrays.items()} == {
    'x0': (2, 2),
    'label': (2,),
    'x1': (2, 2),
  }


@pytest.mark.parametrize(
  ('num_classes', 'arrays'),
  [
    (0, {}),
    (0, {'x0': X0[:0]}),
    (0, {'x0': X0.astype(np.float64)}),
    (0, {'x0': X0[:, :1]}),
    (3, {'x0': X0}),
    (3, {'x0': X0, 'label': LABEL.astype(np.int64)}),
    (3, {'x0': X0, 'label': LABEL[:5]}),
    (0, {'x0': X0, 'x1': X0[:5]}),
  ],
)
def test_wrong_arrays_are_refused(num_classes, arrays):
  with pytest.raises(ValueError, match=r"needs arrays {'x0': 'float32 \["):
    Source((2,), num_classes, arrays)
