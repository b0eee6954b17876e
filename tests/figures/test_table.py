"""The table on the screen."""

import io

import rich.console

from flowdistill.figures.table import table

TEACHER = {
  'model': 'teacher',
  'sampler': 'heun',
  'nfe': 31,
  'samples': 3594,
  'seed': 0,
  'frechet_digits': 2.256,
  'accuracy': 0.98765,
  'memorised': 0.5,
  'ms_per_image': 1.23456,
}
STUDENT = {**TEACHER, 'model': 'student', 'sampler': 'flow_map', 'nfe': 1}


def show(rows, width=80):
  out = io.StringIO()
  rich.console.Console(file=out, width=width).print(table(rows))
  return out.getvalue()


def test_every_column_fits_a_narrow_screen():
  text = show([TEACHER, STUDENT])
  assert '…' not in text
  assert max(map(len, text.splitlines())) <= 80
  for word in ('NFE', 'Fréchet', '(digits)', 'memorised', 'flow_map'):
    assert word in text
  for value in ('31', '2.26', '98.8%', '50.0%', '1.235'):
    assert value in text
  assert '3594' not in text


def test_figures_have_their_spread_or_their_error_below_them():
  row = {
    'model': 'student',
    'fid': 1.234,
    'fid_spread': 0.5,
    'kid': 0.1,
    'kid_error': 0.02,
    'recall_digits': 0.75,
    'kernel_digits': 0.3,
    'kernel_error_digits': 0.04,
    'inception_score_digits': 8.0,
    'inception_score_deviation_digits': 0.25,
    'other_digits': 1.0,
  }
  text = show([row], width=100)
  for shown in ('1.23', '± 0.50', '0.1', '± 0.02', '0.750', '± 0.04'):
    assert shown in text
  assert '8.00' in text and '± 0.25' in text
  assert text.count('±') == 4
  assert 'other' not in text and 'error' not in text


def test_only_the_columns_that_the_rows_have():
  row = {'model': 'student', 'sampler': 'euler', 'nfe': 4}
  text = show([{**row, 'energy_distance': 0.01234}])
  assert '0.0123' in text
  assert 'Fréchet' not in text
  assert 'accuracy' not in text


def test_a_figure_that_a_row_lacks_is_blank():
  rows = [{'model': 'a', 'nfe': 1, 'accuracy': 0.25}, {'model': 'a', 'nfe': 2}]
  lines = show(rows).splitlines()
  assert '25.0%' in lines[-3]
  assert lines[-2].replace(' ', '') == '│a│2││'


def test_options_stand_below_the_sampler():
  how = 'gamma=0.5, grid=shifted(shift=2)'
  lines = show([TEACHER, {**STUDENT, 'options': how}]).splitlines()
  start = lines.index(next(line for line in lines if 'flow_map' in line))
  below = ''.join(line.split('│')[2].strip() for line in lines[start + 1 : -1])
  assert below.replace(' ', '') == how.replace(' ', '')
  assert max(map(len, lines)) <= 80
  assert '…' not in ''.join(lines)


def test_an_adaptive_sampler_has_a_mean():
  assert '127.4' in show([{**TEACHER, 'nfe': 127.3812}])


def test_figures_of_another_kind_are_a_table_of_their_own():
  straight = {'model': 'student', 'straightness': 0.25, 'options': 'guidance=2'}
  error = {'model': 'student', 't': 0.5, 'boundary_error': 0.125}
  text = show([TEACHER, STUDENT, straight, error, {**error, 't': 1.0}])
  assert sum(set(line) <= set('┏┳━┓') for line in text.splitlines()) == 3
  assert max(map(len, text.splitlines())) <= 80
  for word in ('straightness', '0.2500', 'guidance=2', '0.1250', '0.5'):
    assert word in text


def test_models_are_set_apart():
  """The line of the header, the bottom, and one between the models."""
  rules = [
    line
    for line in show([TEACHER, TEACHER, STUDENT]).splitlines()
    if set(line) <= set('├┼┤─')
  ]
  assert len(rules) == 1


def test_no_rows_are_an_empty_table():
  assert show([]).strip() == ''


def test_what_was_measured_in_another_way_is_a_table_of_its_own():
  """Rows of two networks alternate, and come into a table each."""
  rows = [
    {'model': 'student', 'nfe': n, 'samples': k, 'features': net, name: 1.25}
    for n in (1, 2)
    for net, name in (('inception', 'fid'), ('digits', 'frechet_digits'))
    for k in (50, 600)
  ]
  text = show(rows)
  assert sum(set(line) <= set('┏┳━┓') for line in text.splitlines()) == 4
  assert text.count('samples = 50') == text.count('samples = 600') == 2
  assert 'inception' not in text


def test_a_figure_whose_network_was_in_a_loss_is_marked():
  text = show([STUDENT, {**TEACHER, 'trained_on': 'vgg16 (lpips)'}])
  assert '2.26†' in text and '2.26 ' in text and '31†' not in text
  assert '† its feature network was in a training loss' in text
  assert '†' not in show([STUDENT])


def test_a_bias_is_no_column():
  text = show([{**STUDENT, 'fid': 1.0, 'fid_bias': 0.5, 'fid_spread': 0.25}])
  assert 'bias' not in text and '± 0.25' in text


def test_other_weights_are_in_one_table():
  """They say how examples were drawn, and not how they were measured."""
  rows = [
    {'model': 'teacher', 'frechet_digits': 2.0, 'step': 1},
    {'model': 'student', 'frechet_digits': 1.0, 'ema': 'half_life()'},
    {'model': 'student', 'frechet_digits': 1.5, 'weights': 'params'},
  ]
  assert len(table(rows).renderables) == 1
