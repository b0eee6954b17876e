"""The table on the screen."""

import io

import rich.console

from flowdistill.evaluators.table import table

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
  for word in ('NFE', 'Fréchet distance', '(digits)', 'memorised', 'flow_map'):
    assert word in text
  for value in ('31', '2.26', '98.8%', '50.0%', '1.235'):
    assert value in text
  assert '3594' not in text


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
