"""What curves and comparisons have in common."""

import pytest

from flowdistill.evaluators.canvas import (
  COLOURS,
  colours,
  metric_title,
  new_figure,
  save,
)


def test_the_title_of_a_metric():
  assert metric_title('frechet_digits') == 'Fréchet distance (digits)'
  assert metric_title('teacher_distance') == 'teacher distance'


def test_teacher_and_student_have_the_same_colours_in_all_pictures():
  found = colours(['weak', 'student'])
  assert found['teacher'] == colours(['teacher'])['teacher'] == COLOURS[0]
  assert found['student'] == colours(['student'])['student'] == COLOURS[1]
  assert len({*found.values()}) == 3


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch):
  figure = new_figure(1, 1)

  def fail(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(figure, 'savefig', fail)
  with pytest.raises(OSError, match=f'No space .*{tmp_path}'):
    save(figure, tmp_path / 'a.png')
