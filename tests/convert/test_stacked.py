"""Stacked arrays and those of single layers."""

import numpy as np

from flowdistill.convert.stacked import single_arrays, single_shapes, stacked

RNG = np.random.default_rng(0)
OURS = {
  'first.kernel': RNG.normal(size=(2, 3)),
  'blocks.each.norm.scale': RNG.normal(size=(12, 4)),
  'blocks.each.qkv.kernel': RNG.normal(size=(12, 4, 5)),
  'ends.0.kernel': RNG.normal(size=(3,)),
}


def test_there_and_back_in_the_order_of_the_layers():
  """Of more than ten, where 10 comes before 2 by its name."""
  single = single_arrays(OURS)
  assert len(single) == 2 + 2 * 12
  np.testing.assert_array_equal(
    single['blocks.10.qkv.kernel'], OURS['blocks.each.qkv.kernel'][10]
  )
  assert np.shares_memory(
    single['blocks.3.norm.scale'], OURS['blocks.each.norm.scale']
  )
  back = stacked(single, ['blocks'])
  assert back.keys() == OURS.keys()  # 'ends' are a list, and no stack
  for path, array in OURS.items():
    np.testing.assert_array_equal(back[path], array, err_msg=path)


def test_shapes_are_those_of_the_arrays():
  shapes = {path: array.shape for path, array in OURS.items()}
  assert single_shapes(shapes) == {
    path: array.shape for path, array in single_arrays(OURS).items()
  }
