"""The shapes of aspect-ratio buckets, and which picture goes to which."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.datasets.buckets import Buckets, about, nearest

# Podell et al., "SDXL" (2023), appendix I: (height, width).
SDXL = [
  *((512, 2048), (512, 1984), (512, 1920), (512, 1856), (576, 1792)),
  *((576, 1728), (576, 1664), (640, 1600), (640, 1536), (704, 1472)),
  *((704, 1408), (704, 1344), (768, 1344), (768, 1280), (832, 1216)),
  *((832, 1152), (896, 1152), (896, 1088), (960, 1088), (960, 1024)),
  *((1024, 1024), (1024, 960), (1088, 960), (1088, 896), (1152, 896)),
  *((1152, 832), (1216, 832), (1280, 768), (1344, 768), (1408, 704)),
  *((1472, 704), (1536, 640), (1600, 640), (1664, 576), (1728, 576)),
  *((1792, 576), (1856, 512), (1920, 512), (1984, 512), (2048, 512)),
]


def test_the_defaults_are_those_of_sdxl():
  """Whose table has 704 x 1344, and does not have it on its side."""
  shapes = Buckets().shapes(1024)
  assert len(SDXL) == 40
  assert set(shapes) - set(SDXL) == {(1344, 704)}
  assert set(SDXL) < set(shapes)
  assert shapes[0] == (1024, 1024)


def test_small_pictures_have_few_buckets():
  shapes = Buckets(step=8, max_ratio=2.0).shapes(32)
  assert shapes == [(32, 32), (24, 40), (40, 24)]


@given(
  side=st.integers(4, 24),
  step=st.integers(1, 16),
  max_ratio=st.floats(4.0, 8.0),
  min_area=st.floats(0.05, 0.75),
)
def test_every_bucket_keeps_what_the_rule_promises(
  side, step, max_ratio, min_area
):
  rule = Buckets(step=step, max_ratio=max_ratio, min_area=min_area)
  shapes = rule.shapes(side * step)
  area = (side * step) ** 2
  assert shapes[0] == (side * step, side * step)
  for height, width in shapes:
    assert height % step == width % step == 0
    assert min_area * area - 1e-6 <= height * width <= area
    assert max(height, width) <= max_ratio * min(height, width)
  assert {(w, h) for h, w in shapes} == set(shapes)  # upright as wide
  ratios = [h / w for h, w in shapes]
  assert len(set(ratios)) == len(ratios) > 1


@given(
  st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1),
  st.sampled_from([(64, 16, 4.0), (32, 4, 2.0), (1024, 64, 4.0)]),
)
def test_every_picture_goes_to_the_nearest_ratio(sizes, rule):
  size, step, max_ratio = rule
  shapes = Buckets(step=step, max_ratio=max_ratio).shapes(size)
  numbers = nearest(shapes, np.asarray(sizes))
  for (height, width), number in zip(sizes, numbers, strict=True):

    def distance(shape, ratio=height / width):
      ours = shape[0] / shape[1]
      return max(ours / ratio, ratio / ours)

    best = min(map(distance, shapes))
    assert distance(shapes[number]) <= best * (1 + 1e-9)


def test_a_picture_and_the_same_on_its_side_go_to_mirrored_buckets():
  shapes = Buckets().shapes(1024)
  sizes = np.random.default_rng(0).integers(100, 900, (500, 2))
  upright, wide = nearest(shapes, sizes), nearest(shapes, sizes[:, ::-1])
  assert [shapes[i][::-1] for i in upright] == [shapes[i] for i in wide]


def test_the_line_says_which_buckets_have_pictures():
  shapes = [(32, 32), (24, 40), (40, 24)]
  assert about(shapes, np.asarray([0, 2, 2])) == (
    'buckets, of height x width: 32 x 32 has 1, 40 x 24 has 2'
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'step': 0}, 'step = 0 must be at least 1'),
    ({'max_ratio': 0.5}, 'max_ratio = 0.5 must be at least 1'),
    ({'max_ratio': float('nan')}, 'max_ratio = nan must be'),
    ({'max_ratio': float('inf')}, 'max_ratio = inf must be'),
    ({'min_area': 0.0}, r'min_area = 0.0 must lie in \(0, 1\]'),
    ({'step': 24}, 'step = 24 must divide size = 64; size may be 48 or 72'),
    ({'step': 64}, 'size = 64 there is but the square'),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    Buckets(**options).shapes(64)
