"""The picture of many methods: lines, their names, what is left out."""

import itertools

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from flowdistill.figures import comparison as module
from flowdistill.figures.comparison import comparison, three_digits
from flowdistill.figures.methods import Method, Point
from flowdistill.figures.spread import spread

TEACHER = {1: 26.2, 2: 8.4, 4: 3.9, 8: 2.2}
STUDENTS = [f'method_{k}' for k in range(14)]


def method(name, values, *, teacher=False, spreads=1.0):
  points = (
    Point(nfe, v, v / spreads, v * spreads) for nfe, v in values.items()
  )
  return Method(name, teacher, tuple(points))


def falling(start):
  return {nfe: start * nfe**-0.25 for nfe in (1, 2, 4, 8)}


METHODS = [
  method('flow (teacher), euler', TEACHER, teacher=True),
  method('flow (teacher), heun', {31: 1.12}, teacher=True),
  *(method(n, falling(1.2 + 0.01 * k)) for k, n in enumerate(STUDENTS)),
]


@pytest.fixture
def axes(tmp_path, monkeypatch):
  """draw(methods) -> the axes of the figure that would be saved, laid out."""
  figures = []
  monkeypatch.setattr(module, 'save', lambda figure, _: figures.append(figure))

  def draw(methods, metric='frechet_digits'):
    comparison(tmp_path / 'a.png', methods, metric=metric)
    figure = figures.pop()
    figure.canvas.draw()
    (ax,) = figure.axes
    return ax

  return draw


def lines_of(ax):
  """The lines that have a marker at every point."""
  return [line for line in ax.lines if line.get_marker() in module.MARKERS]


def test_it_is_a_picture(tmp_path):
  path = tmp_path / 'samples' / 'comparison.png'
  comparison(path, METHODS, metric='frechet_digits')
  height, width, _ = imread(path).shape
  assert height >= 1000
  assert width > 1.5 * height


def test_every_method_has_a_line_of_its_own_look(axes):
  ax = axes(METHODS)
  lines = lines_of(ax)
  assert len(lines) == 15  # the one point of heun lies beyond the students
  looks = {(line.get_color(), line.get_marker()) for line in lines}
  assert len(looks) == 15
  assert len({line.get_color() for line in lines}) == 15
  assert [line.get_linestyle() for line in lines] == ['--'] + ['-'] * 14
  assert dict(zip(*lines[3].get_data(), strict=True)) == falling(1.22)
  assert ax.get_xlim()[1] < 10
  assert (ax.get_xscale(), ax.get_yscale()) == ('log', 'log')


def test_names_stand_apart_in_the_order_of_the_ends_and_in_the_picture(axes):
  ax = axes(METHODS)
  boxes = [Text.get_window_extent(text) for text in ax.texts]  # no ties
  words = [text.get_text() for text in ax.texts]
  assert len(words) == 16
  order = np.argsort([box.y0 for box in boxes])
  for below, above in itertools.pairwise(order):
    assert boxes[above].y0 > boxes[below].y1 - 2
  values = [float(words[k].split(', ')[-1].split(' at ')[0]) for k in order]
  assert values == sorted(values)
  figure = ax.figure.bbox
  assert all(box.x1 <= figure.x1 and box.y1 <= figure.y1 for box in boxes)
  assert all(box.x0 > ax.bbox.x1 and box.y0 >= 0 for box in boxes)
  for text, line in zip(ax.texts, lines_of(ax), strict=False):
    assert text.get_color() == line.get_color()


def test_many_names_make_a_tall_picture(axes):
  many = axes([method(f'm{k}', falling(1 + k / 100)) for k in range(40)])
  boxes = [Text.get_window_extent(text) for text in many.texts]
  levels = sorted((box.y0, box.y1) for box in boxes)
  assert all(b[0] > a[1] - 2 for a, b in itertools.pairwise(levels))
  assert levels[0][0] >= 0
  assert levels[-1][1] <= many.figure.bbox.y1


def test_names_that_have_room_are_level_with_their_ends(axes):
  ax = axes([method('a', {1: 9.0, 8: 2.0}), method('b', {1: 9.0, 2: 7.0})])
  for text, line in zip(ax.texts, lines_of(ax), strict=True):
    box = Text.get_window_extent(text)
    _, level = ax.transData.transform(line.get_xydata()[-1])
    assert (box.y0 + box.y1) / 2 == pytest.approx(level, abs=3)


def test_the_best_of_the_teachers_is_a_line_with_its_nfe(axes):
  ax = axes(METHODS)
  assert ax.texts[-1].get_text() == "teacher's best, 1.12 at 31 NFE"
  (line,) = [li for li in ax.lines if {*li.get_ydata()} == {1.12}]
  assert line.get_linewidth() < 1
  assert len(axes(METHODS[2:]).texts) == 14


def test_the_picture_ends_above_the_students_and_the_ends(axes):
  poor = method('flow (teacher), euler', {1: 25.0, 8: 2.5}, teacher=True)
  low, high = axes([poor, method('ect', {1: 2.0, 8: 1.0})]).get_ylim()
  assert 0.8 < low < 1
  assert 2.5 < high < 3


def test_a_line_that_ends_earlier_says_so_and_is_not_tied(axes):
  ax = axes([method('ect', {1: 2.0, 8: 1.0}), method('distillation', {1: 1.5})])
  words = [text.get_text() for text in ax.texts]
  assert words == ['ect, 1.00', 'distillation, 1.50 at 1 NFE']
  widths = [text.arrow_patch.get_linewidth() for text in ax.texts]
  assert widths == [0.8, 0]


def test_teachers_alone_are_shown_in_full(axes):
  ax = axes(METHODS[:2])
  assert [len(line.get_xdata()) for line in lines_of(ax)] == [4, 1]


def test_bars_go_from_the_least_seed_to_the_most(axes):
  ax = axes([method('a', {1: 2.0, 2: 1.0}, spreads=1.25)])
  ((first, second),) = (c.get_segments() for c in ax.collections)
  np.testing.assert_allclose(first, [[1, 1.6], [1, 2.5]])
  np.testing.assert_allclose(second, [[2, 0.8], [2, 1.25]])


def test_an_estimate_below_zero_is_on_a_linear_axis(axes):
  ax = axes([method('a', {1: 0.5, 2: -0.001})], 'energy_distance')
  assert ax.get_yscale() == 'linear'
  assert ax.get_ylabel() == 'energy distance'


def test_places_are_moved_as_little_as_it_takes():
  np.testing.assert_allclose(spread([0.1, 0.5, 0.9], 0.1), [0.1, 0.5, 0.9])
  np.testing.assert_allclose(spread([0.5, 0.1, 0.52], 0.1), [0.46, 0.1, 0.56])
  np.testing.assert_allclose(spread([0.3, 0.3, 0.3], 0.1), [0.2, 0.3, 0.4])
  np.testing.assert_allclose(spread([0.99, 1.0], 0.1), [0.9, 1.0])
  np.testing.assert_allclose(spread([0.0, 0.0], 0.1), [0.0, 0.1])
  np.testing.assert_allclose(spread([0.2, 0.9, 0.5], 0.6), [-0.1, 1.1, 0.5])


def test_three_digits():
  values = (0.9941, 1.2, 26.23, 131.4, -0.00061)
  assert [three_digits(v) for v in values] == [
    '0.994',
    '1.20',
    '26.2',
    '131',
    '-0.000610',
  ]


def test_a_method_whose_loss_asked_the_feature_network_is_marked(axes):
  points = (Point(1, 2.0, 2.0, 2.0), Point(8, 1.0, 1.0, 1.0, trained_on='vgg'))
  ax = axes([Method('a', False, points), method('b', falling(3.0))])
  assert [text.get_text()[:2] for text in ax.texts] == ['a†', 'b,']
  (note,) = ax.figure.texts
  assert note.get_text().startswith('† The feature network')
  box = note.get_window_extent()
  assert 0 <= box.y0 < box.y1 < ax.xaxis.label.get_window_extent().y0
  assert not axes([method('b', falling(3.0))]).figure.texts
