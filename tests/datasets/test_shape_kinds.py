"""The kinds of shapes, against their area in closed form."""

import math

import numpy as np
import pytest

from flowdistill.datasets.shape_kinds import (
  BACKGROUNDS,
  COLOURS,
  KINDS,
  REACH,
  coverage,
  extent,
  moments,
)

AREAS = {
  'circle': math.pi,
  'square': 1.64**2,
  'triangle': 0.57 * 1.7**2,
  'star': 5 * 1.1 * 0.5 * math.sin(math.pi / 5),
  'cross': 2 * 2 * 0.68 - 0.68**2,
  'ring': math.pi * 3 / 4,
  'diamond': 2 * 0.8 * 1.1,
}
SYMMETRIC = ('circle', 'square', 'cross', 'ring', 'diamond')


@pytest.mark.parametrize('kind', AREAS)
def test_areas(kind):
  assert moments(kind)[0] == pytest.approx(AREAS[kind], rel=0.01)


@pytest.mark.parametrize('kind', KINDS)
def test_the_drawing_has_the_area_the_centroid_and_the_box(kind):
  side, x, y, radius = 200, 0.45, 0.55, 0.2
  share = coverage(kind, side, x, y, radius)
  area, u, v = moments(kind)
  line = (np.arange(side) + 0.5) / side
  total = share.sum()
  assert total / side**2 == pytest.approx(area * radius**2, rel=0.01)
  assert share.sum(axis=0) @ line / total == pytest.approx(
    x + u * radius, abs=2e-3
  )
  assert share.sum(axis=1) @ line / total == pytest.approx(
    y + v * radius, abs=2e-3
  )
  rows, columns = np.nonzero(share > 0.5)
  left, top, right, bottom = (
    end * radius + centre
    for end, centre in zip(extent(kind), (x, y, x, y), strict=True)
  )
  found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
  assert np.asarray(found) / side == pytest.approx(
    [left, top, right, bottom], abs=0.016
  )  # tips are thin


@pytest.mark.parametrize('kind', KINDS)
def test_they_are_upright_and_within_reach(kind):
  line = (np.arange(300) - 149.5) / 100
  inside = KINDS[kind](line[None], line[:, None])
  np.testing.assert_array_equal(inside, inside[:, ::-1])
  if kind in SYMMETRIC:
    np.testing.assert_array_equal(inside, inside[::-1])
  rows, columns = np.nonzero(inside)
  assert np.hypot(line[rows], line[columns]).max() < REACH


def test_no_two_kinds_are_alike():
  """Of equal area about one centroid, they agree in at most 0.86."""
  drawn = {}
  for kind in KINDS:
    area, u, v = moments(kind)
    r = 0.3 / math.sqrt(area)
    drawn[kind] = coverage(kind, 64, 0.5 - u * r, 0.5 - v * r, r)
  agree = {
    (a, b): np.minimum(drawn[a], drawn[b]).sum()
    / np.maximum(drawn[a], drawn[b]).sum()
    for a in drawn
    for b in drawn
    if a < b
  }
  assert max(agree.values()) < 0.86, max(agree, key=agree.get)


def test_pixels_at_the_edge_are_covered_in_part():
  share = coverage('square', 32, 0.5, 0.5, 9.5 / (0.82 * 32))
  assert sorted({*np.round(share.ravel(), 3).tolist()}) == [0, 0.25, 0.5, 1]
  assert coverage('circle', 32, 0.0, 0.0, 0.2)[0, 0] == 1  # cut at the edge


def test_colours_are_far_from_one_another_and_from_backgrounds():
  values = np.asarray([*COLOURS.values(), *BACKGROUNDS.values()], float)
  far = np.linalg.norm(values[:, None] - values, axis=-1)
  assert far[far > 0].min() > 105
