"""The detector and the rules, held by drawings that are right and wrong."""

import dataclasses

import numpy as np
import pytest

from flowdistill.datasets.images import to_unit
from flowdistill.datasets.shape_detection import detect
from flowdistill.datasets.shape_kinds import BACKGROUNDS, COLOURS, KINDS
from flowdistill.datasets.shape_scenes import Scene, Shape, render
from flowdistill.datasets.shapes import shapes
from flowdistill.metrics.geneval import Clause, judge


def found(scene, size, noise=0.0, seed=0):
  picture = to_unit(render(scene, size))
  rng = np.random.default_rng(seed)
  return detect(picture + noise * rng.standard_normal(picture.shape))


def right(index, size, noise=0.0):
  """Whether the drawing of an example is found correct."""
  source = shapes()
  objects = found(source.scene(index), size, noise, index)
  return judge(source.prompts[index], objects).correct


def spoilt(scene, prompt):
  """A drawing with one attribute changed, and the prompt that it fails."""
  first, *others = scene.shapes
  match scene.tag:
    case 'colors':
      first = dataclasses.replace(first, colour=another(COLOURS, first.colour))
    case 'color_attr':
      (last,) = others
      others = [dataclasses.replace(last, colour=first.colour)]
      first = dataclasses.replace(first, colour=last.colour)
    case 'position':
      (last,) = others
      others = [dataclasses.replace(last, kind=first.kind)]
      first = dataclasses.replace(first, kind=last.kind)
    case 'counting' if len(others) == 3:
      kind = first.kind
      fewer = (Clause(kind, 3),), (Clause(kind, 4),)
      prompt = dataclasses.replace(prompt, include=fewer[0], exclude=fewer[1])
    case 'counting':
      others = others[1:]
    case _:
      taken = [shape.kind for shape in scene.shapes]
      first = dataclasses.replace(first, kind=another(KINDS, *taken))
  return dataclasses.replace(scene, shapes=(first, *others)), prompt


def another(names, *taken):
  return next(name for name in names if name not in taken)


def passes(index, size):
  """Whether a spoilt drawing of an example is found correct."""
  source = shapes()
  scene, prompt = spoilt(source.scene(index), source.prompts[index])
  return judge(prompt, found(scene, size)).correct


@pytest.mark.parametrize(('size', 'n'), [(32, 120), (64, 60)])
def test_right_drawings_are_right_and_wrong_ones_wrong(size, n):
  assert [i for i in range(n) if not right(i, size)] == []
  assert [i for i in range(n) if passes(i, size)] == []


@pytest.mark.slow
@pytest.mark.parametrize('size', [32, 64])
def test_more_than_99_of_100_are_judged_well(size):
  places = range(120, 720)
  assert np.mean([right(i, size) for i in places]) > 0.99
  assert np.mean([not passes(i, size) for i in places]) > 0.99


@pytest.mark.parametrize('noise', [0.1, 0.2])
def test_noise_of_a_tenth_or_a_fifth_does_not_matter(noise):
  assert np.mean([right(i, 32, noise) for i in range(60)]) > 0.95


@pytest.mark.parametrize('background', BACKGROUNDS)
@pytest.mark.parametrize('kind', KINDS)
def test_every_colour_of_every_kind_is_found_where_it_is(kind, background):
  for place, colour in enumerate(COLOURS):
    x, y = 0.3 + 0.05 * place, 0.65 - 0.04 * place
    shape = Shape(kind, colour, 0.15, x, y)
    (one,) = found(Scene('colors', background, (shape,)), 32)
    assert (one.kind, one.colour) == (kind, colour)
    assert np.asarray(one.box) / 32 == pytest.approx(shape.box, abs=0.03)
    assert one.confidence > 0.9


def test_shapes_of_two_colours_may_touch():
  shapes = (
    Shape('square', 'red', 0.2, 0.3, 0.5),
    Shape('square', 'blue', 0.2, 0.3 + 2 * 0.82 * 0.2, 0.5),
  )
  both = found(Scene('two_object', 'white', shapes), 64)
  assert {(one.kind, one.colour) for one in both} == {
    ('square', 'red'),
    ('square', 'blue'),
  }


def test_what_is_no_shape_is_not_found():
  rng = np.random.default_rng(0)
  noise = rng.standard_normal((32, 32, 3))
  bar = np.full((32, 32, 3), -1.0)
  bar[14:17, 3:29] = [1, -1, -1]  # red, but long
  white = np.full((32, 32, 3), -1.0)
  white[10:20, 10:20] = 1  # a square of no colour of shapes
  for picture in (np.zeros((32, 32, 3)), noise, bar, white):
    assert detect(picture) == []
  assert detect(np.full((32, 32, 3), np.nan)) == []
