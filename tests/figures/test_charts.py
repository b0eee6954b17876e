"""Geometry of charts: ticks that do not touch, points inside the axes."""

import itertools

import pytest

from flowdistill.figures import axes
from flowdistill.figures.axes import drawable, spelled
from flowdistill.figures.charts import HEIGHT, WIDTH, Series, draw


def chart(points, **options):
  return draw('a', [Series('x', points, 0)], x_title='NFE', **options)


@pytest.mark.parametrize(
  'ys',
  [
    *([1.0], [0.0], [-3.0], [1.0, 1.0], [0.0, 1.0], [-1e5, 1e5]),
    *([1e-299, 1e299], [5e-299], [1e16, 1e16 + 2], [1.0, 1.0 + 1e-15]),
    *([0.9999, 1.0001], [3.0, 128.0, 11.0], [1e-7, 3e-7], [-1e299, 1e299]),
  ],
)
def test_every_range_has_ticks_and_fits(ys):
  drawn = chart(list(enumerate(ys, start=1)))
  for mark in drawn.lines[0].marks:
    assert drawn.left <= mark.x <= drawn.right
    assert drawn.top <= mark.y <= drawn.bottom
  at = [tick.at for tick in drawn.y_ticks]
  assert 1 <= len(at) <= 12
  assert all(0 <= y <= HEIGHT for y in at)
  assert len({tick.text for tick in drawn.y_ticks}) == len(at)


@pytest.mark.parametrize('log', [True, False])
def test_numbers_of_nfe_do_not_touch(log):
  drawn = chart([(x, 1.0) for x in (*range(1, 40), 1000)], log_x=log)
  at = [tick.at for tick in drawn.x_ticks]
  assert all(b - a >= axes.APART for a, b in itertools.pairwise(at))
  assert drawn.x_ticks[0].text == '1'
  assert max(at) <= WIDTH


def test_a_wide_range_is_logarithmic():
  drawn = chart([(1, 1.0), (2, 10.0), (4, 100.0)], log_x=True)
  (a, b, c) = drawn.lines[0].marks
  assert b.y - a.y == pytest.approx(c.y - b.y, abs=0.2)
  assert b.x - a.x == pytest.approx(c.x - b.x, abs=0.2)
  assert [t.text for t in drawn.y_ticks] == ['1', '3', '10', '30', '100']


def test_a_mark_says_its_numbers():
  (mark,) = chart([(4, 1.23456)]).lines[0].marks
  assert mark.text == 'x: 1.235 at 4'


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    *((1000, '1000'), (20_000, '20k'), (1.5e6, '1.5M'), (2e9, '2G')),
    *((0.05, '0.05'), (1e-7, '1e-07'), (-12_500, '-12.5k'), (0, '0')),
  ],
)
def test_numbers_are_short(value, text):
  assert spelled(value) == text


def test_what_can_be_drawn():
  bad = (float('nan'), float('inf'), -float('inf'), 1e301, 1e-310)
  assert [value for value in (0.0, -1.0, 1e9, *bad) if drawable(value)] == [
    *(0.0, -1.0, 1e9)
  ]
