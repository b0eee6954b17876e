"""The curve: lines, markers, ticks and the teacher's best."""

import pytest
from matplotlib.image import imread

from flowdistill.evaluators import curve as module
from flowdistill.evaluators.curve import curve

FIGURES = {
  ('teacher', 'euler'): {1: 72.0, 2: 17.5, 4: 6.4, 8: 3.5},
  ('teacher', 'heun'): {31: 2.26},
  ('student', 'flow_map'): {4: 2.1, 1: 10.2, 2: 2.8},
}
ROWS = [
  {'model': model, 'sampler': sampler, 'nfe': nfe, 'frechet_digits': value}
  for (model, sampler), each in FIGURES.items()
  for nfe, value in each.items()
]


@pytest.fixture
def axes(tmp_path, monkeypatch):
  """draw(rows) -> the axes of the figure that would be saved."""
  figures = []
  monkeypatch.setattr(module, 'save', lambda figure, _: figures.append(figure))

  def draw(rows):
    curve(tmp_path / 'curve.png', rows)
    (ax,) = figures.pop().axes
    return ax

  return draw


def test_it_is_a_picture_of_the_size_of_a_page(tmp_path):
  curve(tmp_path / 'samples' / 'curve.png', ROWS)
  image = imread(tmp_path / 'samples' / 'curve.png')
  assert image.shape[:2] == (960, 1800)
  assert image.std() > 0.05


def test_a_line_per_model_and_sampler_in_order_of_nfe(axes):
  lines = {line.get_label(): line for line in axes(ROWS).lines}
  found = {
    name: dict(zip(*line.get_data(), strict=True))
    for name, line in lines.items()
    if not name.startswith('_')
  }
  assert found == {
    'teacher, euler': FIGURES['teacher', 'euler'],
    'teacher, heun': FIGURES['teacher', 'heun'],
    'student, flow map': FIGURES['student', 'flow_map'],
  }
  assert list(found['student, flow map']) == [1, 2, 4]
  assert lines['teacher, euler'].get_linestyle() == '--'
  assert lines['student, flow map'].get_linestyle() == '-'
  colours = {name: line.get_color() for name, line in lines.items()}
  assert colours['teacher, euler'] == colours['teacher, heun']
  assert colours['teacher, euler'] != colours['student, flow map']
  assert len({lines[name].get_marker() for name in found}) == 3


def test_axes_are_logarithmic_with_plain_numbers(axes):
  ax = axes(ROWS)
  ax.figure.canvas.draw()
  assert (ax.get_xscale(), ax.get_yscale()) == ('log', 'log')
  assert [t.get_text() for t in ax.get_xticklabels()] == [
    '1',
    '2',
    '4',
    '8',
    '31',
  ]
  shown = {t.get_text() for t in ax.get_yticklabels()}
  assert {'2', '5', '10', '20', '50'} <= shown
  assert ax.get_xlabel().startswith('NFE')
  assert ax.get_ylabel() == 'Fréchet distance (digits)'


def test_the_best_of_the_teacher_is_a_thin_line(axes):
  (best,) = [
    line
    for line in axes(ROWS).lines
    if set(line.get_ydata()) == {2.26} and len(line.get_ydata()) == 2
  ]
  assert best.get_linewidth() < 1


def test_without_a_teacher_there_is_no_best(axes):
  student = [row for row in ROWS if row['model'] == 'student']
  assert len(axes(student).lines) == 1


def test_options_tell_lines_apart(axes):
  gammas = [
    {**row, 'sampler': 'gamma', 'options': f'gamma={g}', 'nfe': n + g}
    for g in (0.5, 1.0)
    for n, row in enumerate(ROWS[:2], start=1)
  ]
  lines = [
    li for li in axes([*ROWS, *gammas]).lines if li.get_label()[0] != '_'
  ]
  labels = [line.get_label() for line in lines]
  assert labels[-2:] == [
    'teacher, gamma, gamma=0.5',
    'teacher, gamma, gamma=1.0',
  ]
  assert len({line.get_marker() for line in lines}) == 5
  assert [len(line.get_xdata()) for line in lines[-2:]] == [2, 2]


def test_numbers_under_the_axis_do_not_touch(axes):
  rows = [{**ROWS[0], 'nfe': nfe} for nfe in (1, 8, 31, 32, 35.5, 36)]
  assert axes(rows).get_xticks().tolist() == [1, 8, 31, 36]
