"""What curves and comparisons have in common."""

from flowdistill.evaluators.canvas import COLOURS, colours, metric_title


def test_the_title_of_a_metric():
  assert metric_title('frechet_digits') == 'Fréchet distance (digits)'
  assert metric_title('teacher_distance') == 'teacher distance'


def test_teacher_and_student_have_the_same_colours_in_all_pictures():
  found = colours(['weak', 'student'])
  assert found['teacher'] == colours(['teacher'])['teacher'] == COLOURS[0]
  assert found['student'] == colours(['student'])['student'] == COLOURS[1]
  assert len({*found.values()}) == 3
