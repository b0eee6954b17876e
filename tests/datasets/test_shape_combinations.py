"""What training never shows, counted in scenes by the names in them."""

import collections
import itertools

import pytest

from flowdistill.datasets.shape_combinations import belongs, held_out
from flowdistill.datasets.shape_kinds import COLOURS, KINDS
from flowdistill.datasets.shapes import shapes

N = 3000


def seen(split, n=N):
  """Category -> the combinations of all kinds in its scenes, by name."""
  source, found = shapes(split=split, examples=n), collections.defaultdict(set)
  for index in range(n):
    scene = source.scene(index)
    things = [(s.kind, s.colour) for s in scene.shapes]
    kinds = [s.kind for s in scene.shapes]
    found[scene.tag, 'pair'] |= {*things}
    if len(things) > 1 and len({*kinds}) == 1:
      found[scene.tag, 'count'].add((kinds[0], len(kinds)))
    if len({*kinds}) == 2:
      found[scene.tag, 'kinds'].add(frozenset(kinds))
      found[scene.tag, 'binding'].add(frozenset(things))
  return found


@pytest.fixture(scope='module')
def both():
  return seen('train'), seen('validation')


ABOUT = {
  'single_object': 'pair',
  'colors': 'pair',
  'counting': 'count',
  'two_object': 'kinds',
  'position': 'kinds',
  'color_attr': 'binding',
}


@pytest.mark.parametrize('tag', ABOUT)
def test_training_never_shows_what_validation_asks_for(both, tag):
  train, validation = both
  what = ABOUT[tag]
  shown = set().union(*(v for (_, each), v in train.items() if each == what))
  assert validation[tag, what]
  assert not validation[tag, what] & shown


@pytest.mark.parametrize('what', ['pair', 'count', 'kinds', 'binding'])
def test_else_validation_shows_what_training_may_show(both, what):
  """So that a failure is due to one new combination."""
  others = [tag for tag, about in ABOUT.items() if about != what]
  for tag in others:
    for each in both[1][tag, what]:
      if what == 'binding':
        (a, b), (c, d) = each
        assert 'bound' not in held_out([a, c], [b, d])
      else:
        assert each in both[0][tag, what] | set().union(
          *(v for (_, w), v in both[0].items() if w == what)
        )


def test_how_many_are_held_out(both):
  train, _ = both
  shown = {
    what: set().union(*(v for (_, each), v in train.items() if each == what))
    for what in ('pair', 'count', 'kinds')
  }
  assert {what: len(each) for what, each in shown.items()} == {
    'pair': 56,
    'count': 21,
    'kinds': 24,
  }
  missing = {*itertools.product(KINDS, COLOURS)} - shown['pair']
  assert {kind for kind, _ in missing} == {*KINDS}
  assert {colour for _, colour in missing} == {*COLOURS}


def test_an_eighth_of_bindings_with_the_colours_exchanged():
  every = [
    (a, b, c, d)
    for a, b in itertools.combinations(KINDS, 2)
    for c, d in itertools.permutations(COLOURS, 2)
  ]
  out = [x for x in every if 'bound' in held_out(x[:2], x[2:])]
  assert 0.1 < len(out) / len(every) < 0.15
  assert {(a, b, d, c) for a, b, c, d in out} == {*out}


def test_all_has_both():
  for kind, colour in itertools.product(KINDS, COLOURS):
    parts = [
      belongs('colors', [kind], [colour], split)
      for split in ('train', 'validation', 'all')
    ]
    assert parts in ([True, False, True], [False, True, True])
