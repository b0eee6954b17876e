"""Images of a network as those of a file."""

import numpy as np
import pytest

from flowdistill.flow.pixels import to_uint8


def test_every_value_of_a_file_comes_back():
  values = np.arange(256, dtype=np.uint8)
  x = (values.astype(np.float32) / 127.5 - 1).astype(np.float32)
  np.testing.assert_array_equal(to_uint8(x), values)


@pytest.mark.parametrize(('x', 'value'), [(-1.5, 0), (1.5, 255), (0.0, 128)])
def test_what_is_outside_is_clipped_and_the_middle_is_rounded_to_even(x, value):
  assert to_uint8(np.float32(x)) == value
