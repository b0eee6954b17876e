"""Columns by provenance, and rows of the same examples in one line."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flowdistill.figures.columns import (
  beside,
  columns_of,
  figures,
  found_beside,
)
from flowdistill.figures.tabulated import tabulate

ROW = {'model': 'student', 'sampler': 'flow_map', 'nfe': 4, 'step': 2}
KEYS = ('samples', 'seed', 'reference', 'weights_sha256', 'codec', 'trained_on')
TEXTS = st.text('ab60†|<nul', max_size=5)
VALUES = {
  'samples': st.integers(1, 3) | st.sampled_from([1.0, 2.5]),
  'seed': st.integers(0, 1),
}
HOWS = st.fixed_dictionaries(
  {},
  optional={k: VALUES.get(k, TEXTS | st.none() | st.booleans()) for k in KEYS},
)


def table(rows, **options):
  return tabulate(rows, 10_000, [], **options)


def shown(found):
  """(name, title beside it, text) of every figure, by line."""
  return [
    [
      (column.name, column.about, cell.text)
      for column, cell in zip(
        found.columns, line[len(found.drawn) :], strict=True
      )
      if cell.text
    ]
    for line in found.lines
  ]


@settings(deadline=None, max_examples=150)
@given(st.lists(HOWS, min_size=1, max_size=6))
def test_two_figures_that_differ_in_provenance_never_share_a_column(hows):
  rows = [{**ROW, **how, 'odd': k + 0.5} for k, how in enumerate(hows)]
  found = table(rows)
  drawn = len(found.drawn)
  places = {}
  for line in found.lines:
    for column, cell in enumerate(line[drawn:]):
      if cell.text:
        places[int(float(cell.key))] = column
  assert sorted(places) == [*range(len(rows))]  # none is lost, or overwritten
  for a, how in enumerate(hows):
    for b, other in enumerate(hows):
      assert (places[a] == places[b]) == (repr_of(how) == repr_of(other))
  for column in found.columns:
    assert (
      len({c.about for c in found.columns if c.name == column.name}) == 1
      or column.about
    )


def repr_of(how):
  """1 and 1.0 are alike; '1', True and None are not."""
  return {
    key: (float(value) if key in VALUES else repr(value))
    for key, value in how.items()
  }


def test_rows_of_two_networks_and_references_are_one_line():
  rows = [
    {**ROW, 'nfe': n, 'seed': 0, 'features': net, 'reference': ref, name: n / 2}
    for n in (1, 2)
    for net, name in (('inception', 'fid'), ('dinov2_b14', 'frechet_dinov2'))
    for ref in ('train', 'test')
  ]
  found = table(rows)
  assert [column.name for column in found.columns] == [
    *('fid', 'fid', 'frechet_dinov2', 'frechet_dinov2'),
  ]
  assert [[text for *_, text in line] for line in shown(found)] == [
    ['0.50'] * 4,
    ['1.00'] * 4,
  ]
  assert found.columns[0].about == 'reference = train'
  assert found.columns[0].provenance == (
    'seed = 0; features = inception; reference = train'
  )


def test_what_would_be_in_one_cell_and_other_seeds_are_two_lines():
  again = [{**ROW, 'seed': 0, 'fid': 1.0}, {**ROW, 'seed': 0, 'fid': 2.0}]
  assert [line[0][2] for line in shown(table(again))] == ['1.00', '2.00']
  other = {**ROW, 'seed': 1, 'fid': 3.0}
  assert len(table([*again, other]).lines) == 3
  more = {**ROW, 'seed': 0, 'kid': 4.0}
  assert [len(line) for line in shown(table([*again, more]))] == [2, 1]
  for key, value in (('run', 'b'), ('options', 'g=1'), ('ema', 'early')):
    assert len(table([again[0], {**more, key: value}]).lines) == 2
  assert len(table([again[0], {**more, 'nfe': 4.0}]).lines) == 1


def test_a_figure_whose_network_was_in_a_training_loss_is_marked():
  rows = [
    {**ROW, 'fid': 1.0, 'trained_on': 'vgg16 (lpips)', 'fid_spread': 0.25},
    {**ROW, 'nfe': 8, 'fid': 2.0, 'trained_on': ''},
    {**ROW, 'nfe': 9, 'fid': 3.0},
  ]
  found = table(rows)
  texts = {text for line in shown(found) for *_, text in line}
  assert texts == {'1.00 ± 0.25†', '2.00', '3.00'}
  (note,) = found.notes
  assert note.startswith('† ') and 'vgg16 (lpips)' in note
  (cell,) = [c for line in found.lines for c in line if '†' in c.text]
  assert 'vgg16 (lpips)' in cell.about and cell.key == '1.0'
  assert [column.about for column in found.columns] == [
    *(f'trained_on = {value}' for value in ('vgg16 (lpips)', 'none', '–')),
  ]
  assert table(rows[2:]).notes == []


def test_a_bias_is_said_and_never_a_column():
  rows = [
    {**ROW, 'nfe': n, 'frechet_x': n, 'frechet_x_bias': n / 8} for n in (1, 4)
  ]
  found = table([*rows, {**ROW, 'nfe': 5, 'only_bias': 1.0}])
  assert [column.name for column in found.columns] == ['frechet_x', 'only_bias']
  cell = found.lines[1][-2]
  assert cell.text == '4.00'
  assert cell.about == '0.5 of it is due to the number of samples'
  (note,) = found.notes
  assert note.startswith('0.12 to 0.5 of Fréchet distance (x) is due')


def test_an_error_may_stand_before_the_name_of_the_network():
  row = {**ROW, 'kernel_digits': 0.5, 'kernel_error_digits': 0.25}
  row |= {'boundary_error': 1.0}
  columns = columns_of([row])
  assert [k[0] for k in columns if not beside(k, columns)] == [
    *('kernel_digits', 'boundary_error'),
  ]
  assert found_beside('kernel_digits', ['_error'], row) == 'kernel_error_digits'
  assert '0.5 ± 0.25' in {text for *_, text in shown(table([row]))[0]}
  assert [*figures(row)] == [
    *('kernel_digits', 'kernel_error_digits', 'boundary_error'),
  ]


def test_only_the_figures_that_are_asked_for():
  rows = [{**ROW, 'fid': 1.0, 'kid': 2.0}, {**ROW, 'nfe': 8, 'kid': 3.0}]
  found = table(rows, metrics=['fid'])
  assert [column.name for column in found.columns] == ['fid']
  assert len(found.lines) == 1


def test_hashes_are_short_in_headings_and_whole_when_pointed_at():
  one, two = 'a' * 64, 'b' * 64
  rows = [
    {**ROW, 'nfe': n, 'fid': 1.0, 'reference_sha256': text}
    for n, text in enumerate((one, two))
  ]
  (a, b) = table(rows).columns
  assert a.about == f'reference_sha256 = {"a" * 12}' and two in b.provenance
