"""What a pickle says of its modules takes bounded time."""

import pytest

from flowdistill.convert.modules import (
  ENTRIES,
  LARGEST,
  MODULES,
  PERSISTENT,
  Made,
  made,
)
from flowdistill.convert.pickle_machine import Call, Table


def persistent(pairs=(), options=()):
  state = Table([('_init_kwargs', Table(list(options)))])
  meta = Table([*pairs, ('class_name', 'Net'), ('state', state)])
  return Call(PERSISTENT, (meta,))


def test_options_are_text_numbers_and_lists_of_such():
  options = [('a', 1), ('b', [1, 'x', None]), ('c', [[1]]), ('d', Table([]))]
  options.append(('e', [0] * (ENTRIES + 1)))
  assert made(persistent(options=options)) == {
    '': Made('Net', {'a': 1, 'b': [1, 'x', None]})
  }


@pytest.mark.parametrize(
  'tree',
  [
    Table([(f'{i}', persistent()) for i in range(MODULES + 1)]),
    persistent([('x', 0)] * LARGEST),
  ],
)
def test_too_much_is_refused_before_it_is_looked_at(tree):
  with pytest.raises(ValueError, match='more than 100 modules, or one with'):
    made(tree)
