from typing import Any

import numpy as np
import pytest
from evaluators.fakes import Data
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.evaluators.signature import real_examples
from flowdistill.flow.spec import DataSpec


@given(st.integers(1, 50), st.integers(1, 60))
def test_examples_are_spread_evenly_and_each_is_taken_once(n, most):
  source: Any = Data(
    DataSpec((1,)), {'x0': np.arange(n, dtype=np.float32)[:, None]}
  )
  taken = real_examples(source, most)[:, 0]
  assert len(taken) == min(n, most)
  gaps = np.diff(np.append(taken, n))
  assert taken[0] == 0
  assert gaps.min() >= 1
  assert gaps.max() - gaps.min() <= 1


def test_a_source_of_fewer_is_taken_whole_and_in_order():
  x0 = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
  source: Any = Data(DataSpec((2,)), {'x0': x0})
  np.testing.assert_array_equal(real_examples(source, 100), x0)
  assert real_examples(source, 3) == pytest.approx(x0[[0, 2, 4]])
