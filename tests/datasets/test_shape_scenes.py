"""Scenes: what is in them, that nothing touches, and how they are drawn."""

import itertools
import math

import numpy as np
import pytest

from flowdistill.datasets.shape_kinds import BACKGROUNDS, COLOURS, KINDS, REACH
from flowdistill.datasets.shape_scenes import Scene, Shape, render, scene_of
from flowdistill.metrics.geneval import TAGS, relations

SCENES = [scene_of(0, index, 'all')[0] for index in range(1200)]


def test_the_categories_take_turns():
  assert [scene.tag for scene in SCENES[:12]] == [*TAGS, *TAGS]


def test_how_many_shapes_a_category_has_and_in_what_they_differ():
  for scene in SCENES:
    kinds = [shape.kind for shape in scene.shapes]
    colours = [shape.colour for shape in scene.shapes]
    if scene.tag in ('single_object', 'colors'):
      assert len(kinds) == 1
    elif scene.tag == 'counting':
      assert len(kinds) in (2, 3, 4) and len({*kinds}) == 1
    else:
      assert len(kinds) == len({*kinds}) == 2
    if scene.tag == 'color_attr':
      assert len({*colours}) == 2


def test_everything_occurs():
  shapes = [shape for scene in SCENES for shape in scene.shapes]
  assert {s.kind for s in shapes} == {*KINDS}
  assert {s.colour for s in shapes} == {*COLOURS}
  assert {s.size for s in shapes} == {'small', 'large', ''}
  assert {scene.background for scene in SCENES} == {*BACKGROUNDS}
  counting = [s for s in SCENES if s.tag == 'counting']
  assert {len(s.shapes) for s in counting} == {2, 3, 4}
  aligned = [s.shapes for s in SCENES if s.tag == 'position']
  found = [relations(a.box, b.box) for a, b in aligned]
  assert all(len(each) == 1 for each in found)
  counts = [sum(name in each for each in found) for name in set().union(*found)]
  assert len(counts) == 4 and min(counts) > 25


def test_shapes_lie_in_the_picture_and_do_not_touch():
  for scene in SCENES:
    for a, b in itertools.combinations(scene.shapes, 2):
      reach = REACH * (a.radius + b.radius)
      assert math.hypot(a.x - b.x, a.y - b.y) > reach + 0.04
    for shape in scene.shapes:
      left, top, right, bottom = shape.box
      assert 0 < left < right < 1 and 0 < top < bottom < 1
      assert shape.radius * 32 > 4  # pixels


def test_the_picture_has_the_colours_where_the_shapes_are():
  shape = Shape('square', 'red', 0.2, 0.25, 0.75)
  picture = render(Scene('colors', 'white', (shape,)), 40)
  assert (picture.shape, picture.dtype) == ((40, 40, 3), np.uint8)
  assert picture[30, 10].tolist() == [*COLOURS['red']]
  assert picture[10, 30].tolist() == [255, 255, 255]
  red = (picture == COLOURS['red']).all(axis=-1)
  rows, columns = np.nonzero(red)
  assert (rows.min(), rows.max()) == (24, 35)  # 30 ± 6.56, whole pixels
  assert (columns.min(), columns.max()) == (4, 15)


@pytest.mark.parametrize('side', [24, 64, 256])
def test_a_larger_picture_is_of_the_same_scene(side):
  scene = SCENES[11]
  small, large = render(scene, 24), render(scene, side)
  k = math.gcd(24, side)
  means = [
    x.reshape(k, len(x) // k, k, len(x) // k, 3).mean((1, 3))
    for x in (small.astype(float), large.astype(float))
  ]
  assert np.abs(means[0] - means[1]).max() < 12
