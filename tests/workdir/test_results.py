"""Rows as lines on the screen and as names in TensorBoard."""

from flowdistill.workdir.results import describe, flat

GAMMA = {
  'model': 'student',
  'sampler': 'gamma',
  'nfe': 4,
  'options': 'gamma=0.5, grid=shifted(shift=2)',
  'samples': 50,
  'seed': 0,
  'frechet_digits': 1.25,
  'step': 7,
}
RK45 = {
  'model': 'teacher',
  'sampler': 'rk45',
  'nfe': 127.375,
  'adaptive': True,
  'teacher_distance': 0.5,
  'reference': 'teacher heun 63 NFE',
}
BOUNDARY = {'model': 'student', 't': 0.5, 'boundary_error': 0.125}
STRAIGHT = {'model': 'ema', 'steps': 32, 'straightness': 0.25}


def test_a_line_says_how_and_what():
  assert [describe(row) for row in (GAMMA, RK45, BOUNDARY, STRAIGHT)] == [
    'student gamma 4 NFE (gamma=0.5, grid=shifted(shift=2)): '
    'frechet_digits 1.25',
    'teacher rk45 127.4 NFE: teacher_distance 0.5',
    'student t = 0.5: boundary_error 0.125',
    'ema: straightness 0.25',
  ]


def test_names_tell_options_apart_and_do_not_move():
  plain = {k: v for k, v in GAMMA.items() if k != 'options'}
  assert flat([plain, GAMMA, RK45, BOUNDARY, STRAIGHT]) == {
    'student/gamma_4/frechet_digits': 1.25,
    'student/gamma_4_gamma_0.5_grid_shifted_shift_2/frechet_digits': 1.25,
    'teacher/rk45/nfe': 127.375,
    'teacher/rk45/teacher_distance': 0.5,
    'student/t_0.5/boundary_error': 0.125,
    'ema/straightness': 0.25,
  }
