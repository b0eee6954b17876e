"""Updates of fused layers are those of their parts."""

import numpy as np
import pytest
from convert.lora_layers import NETWORKS, assert_alike, drawn

from flowdistill.convert.halves import swapped
from flowdistill.convert.lora import Factors
from flowdistill.convert.lora_fused import ORIGINALS, Fused

PARTS = Fused('linear1', ('q', 'k', 'mlp'))
WIDTHS = {'q': (2, 6), 'k': (2, 6), 'mlp': (8, 6)}
RNG = np.random.default_rng(0)


def whole(fused, parts, widths):
  """ΔW of a fused layer, by the rows of its parts."""
  rows = [
    parts[name].delta if name in parts else np.zeros(widths[name])
    for name in fused.parts
  ]
  delta = np.concatenate(rows)
  return swapped(delta) if fused.swap else delta


@pytest.mark.parametrize('network', NETWORKS)
def test_every_layer_is_in_one_of_the_original(network):
  widths = NETWORKS[network]
  parts = [p for layer in ORIGINALS[network](widths) for p in layer.parts]
  assert sorted(parts) == sorted(widths)


@pytest.mark.parametrize(
  ('network', 'swaps'),
  [
    ('flux', ['final_layer.adaLN_modulation.1']),
    (
      'sd3',
      [
        'final_layer.adaLN_modulation.1',
        'joint_blocks.1.context_block.adaLN_modulation.1',
      ],
    ),
  ],
)
def test_scale_and_shift_change_places(network, swaps):
  layers = ORIGINALS[network](NETWORKS[network])
  assert sorted(layer.name for layer in layers if layer.swap) == swaps


@pytest.mark.parametrize('missing', [(), ('k',), ('q', 'k')])
@pytest.mark.parametrize('swap', [False, True])
def test_joined_it_is_the_same_update_and_split_again_too(missing, swap):
  fused = Fused(PARTS.name, PARTS.parts, swap)
  parts = {n: f for n, f in drawn(WIDTHS).items() if n not in missing}
  joined = fused.join([parts.get(name) for name in fused.parts], WIDTHS)
  wanted = whole(fused, parts, WIDTHS)
  np.testing.assert_allclose(joined.delta, wanted, rtol=1e-5, atol=1e-5)
  again = dict(fused.split(joined, WIDTHS))
  assert {f.rank for f in again.values()} == {2}
  for name in missing:
    assert not again.pop(name).delta.any()
  assert_alike(again, parts)


def test_parts_of_other_ranks_are_joined():
  parts = drawn(WIDTHS) | {'k': drawn(WIDTHS, rank=1)['k']}
  joined = PARTS.join([parts[name] for name in PARTS.parts], WIDTHS)
  np.testing.assert_allclose(
    joined.delta, whole(PARTS, parts, WIDTHS), rtol=1e-5, atol=1e-5
  )


def test_what_was_trained_as_one_has_one_a_and_goes_back_as_it_is():
  a, b = RNG.normal(size=(3, 6)), RNG.normal(size=(12, 3))
  trained = Factors(a, b, 3.0)
  parts = dict(PARTS.split(trained, WIDTHS))
  assert all(part.a is trained.a for part in parts.values())
  back = PARTS.join([parts[name] for name in PARTS.parts], WIDTHS)
  np.testing.assert_array_equal(back.a, a)
  np.testing.assert_array_equal(back.b, b)
  assert back.alpha == 3.0


def test_a_wrong_number_of_rows_is_named():
  wrong = Factors(np.ones((1, 6)), np.ones((11, 1)), 1.0)
  with pytest.raises(ValueError, match=r'linear1 has B of shape \[11, 1\]; it'):
    list(PARTS.split(wrong, WIDTHS))
