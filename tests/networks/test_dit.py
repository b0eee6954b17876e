import pytest
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.dit import DiT


@pytest.mark.parametrize(
  ('shape', 'options', 'message'),
  [
    ((8, 8, 1), {'patch': 3}, 'patch = 3 does not divide 8 x 8'),
    ((8, 6, 1), {'patch': 4}, 'patch = 4 does not divide 8 x 6'),
    (
      (8, 8, 1),
      {'width': 64, 'heads': 5},
      'heads = 5 does not divide width = 64',
    ),
  ],
)
def test_what_does_not_divide_raises(shape, options, message):
  with pytest.raises(ValueError, match=message):
    DiT(DataSpec.labelled(shape, 10), **options, rngs=nnx.Rngs(0))
