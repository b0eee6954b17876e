"""Memorisation among related images, and mirrored ones."""

import numpy as np
import pytest

from flowdistill.metrics import relatives
from flowdistill.metrics.neighbours import memorised
from flowdistill.metrics.relatives import (
  distances_to_others,
  memorised_relatives,
)

RNG = np.random.default_rng(0)


def tones(n, variants, spread=0.01):
  """n images of 6 x 6, each in several variants that hardly differ."""
  x = RNG.standard_normal((n, 1, 6, 6, 1)).repeat(variants, axis=1)
  x += spread * RNG.standard_normal(x.shape)
  return x.reshape(-1, 6, 6, 1), np.arange(n).repeat(variants)


def test_of_a_handful_by_hand():
  x = np.array([0.0, 1, 10, 12, 30])[:, None]
  kin = np.array([0, 0, 1, 1, 2])
  found = distances_to_others(x, kin, x, kin)
  np.testing.assert_allclose(found, [10, 9, 9, 11, 18])


@pytest.mark.parametrize('block', [1, 3, 512])
def test_blocks_change_nothing(block, monkeypatch):
  x, kin = tones(5, 3)
  whole = distances_to_others(x, kin, x, kin)
  monkeypatch.setattr(relatives, 'BLOCK', block)
  np.testing.assert_allclose(distances_to_others(x, kin, x, kin), whole)


def test_a_copy_with_another_tone_is_memorised_among_figures_only():
  """To the nearest variant the copy is far, to another figure near."""
  x, kin = tones(50, 5)
  copies = x[::5] + 0.1 * RNG.standard_normal((50, 6, 6, 1))
  assert memorised(copies, x) == 0
  assert memorised_relatives(copies, x, kin, flips=False) == 1
  fresh = RNG.standard_normal((50, 6, 6, 1))
  assert memorised_relatives(fresh, x, kin, flips=False) < 0.7


def test_a_mirrored_copy_is_memorised_with_flips_only():
  x, kin = tones(50, 1)
  assert memorised_relatives(x[:, :, ::-1], x, kin, flips=True) == 1
  assert memorised_relatives(x[:, :, ::-1], x, kin, flips=False) < 0.7


def test_its_own_mirror_image_is_no_neighbour():
  """Symmetrical images would otherwise be at distance 0 of themselves."""
  x, kin = tones(20, 1)
  x = x + x[:, :, ::-1]
  assert memorised_relatives(x + 1e-3, x, kin, flips=True) == 1


def test_where_none_are_related_it_is_the_plain_share():
  x = RNG.standard_normal((60, 4, 4, 1))
  samples = x[:30] + RNG.standard_normal((30, 4, 4, 1))
  found = memorised_relatives(samples, x, np.arange(60), flips=False)
  assert found == memorised(samples, x)


def test_what_has_no_answer_is_refused():
  x = np.zeros((4, 2, 2, 1))
  with pytest.raises(ValueError, match='at least two kins are needed, got one'):
    memorised_relatives(x, x, np.zeros(4, int), flips=False)
  with pytest.raises(ValueError, match=r'kin = \(3,\) must have shape \(4,\)'):
    memorised_relatives(x, x, np.arange(3), flips=False)
  with pytest.raises(ValueError, match=r'flips need images \[n, h, w, c\]'):
    memorised_relatives(x[:, 0], x[:, 0], np.arange(4), flips=True)
