"""Which axes of an array a tactic shards."""

import types

import pytest

from flowdistill.training.mesh import AXES, make_mesh
from flowdistill.training.sharding import Layout
from flowdistill.training.tactics import RULES, TACTICS


def grid(**sizes):
  """A mesh, as far as rules look at it."""
  return types.SimpleNamespace(shape=sizes)


@pytest.mark.parametrize(
  ('tactic', 'shape', 'expected'),
  [
    ('replicate', (64, 64), ()),
    ('fsdp', (64, 128), (None, 'fsdp')),
    ('fsdp', (128, 64), ('fsdp', None)),
    ('fsdp', (64, 64), (None, 'fsdp')),
    ('fsdp', (64, 130), ('fsdp', None)),
    ('fsdp', (63, 131), (None, None)),
    ('fsdp', (4096,), ('fsdp',)),
    ('fsdp', (1023,), ()),
    ('fsdp', (), ()),
    ('column', (64, 192), ('fsdp', 'tensor')),
    ('column', (57, 64, 192), (None, 'fsdp', 'tensor')),
    ('column', (63, 192), (None, 'tensor')),
    ('column', (4096,), ('tensor',)),
    ('row', (192, 64), ('tensor', 'fsdp')),
    ('row', (57, 192, 64), (None, 'tensor', 'fsdp')),
    ('row', (4096,), ('fsdp',)),
  ],
)
def test_what_a_tactic_cuts(tactic, shape, expected):
  mesh = grid(data=2, fsdp=4, tensor=2)
  assert tuple(TACTICS[tactic](shape, mesh)) == expected


def test_an_axis_of_one_cuts_nothing():
  mesh = grid(**dict.fromkeys(AXES, 1))
  for tactic in TACTICS.values():
    assert not any(tactic((64, 64), mesh))


def test_the_first_rule_that_matches_counts():
  layout = Layout(make_mesh(), (('*.a', 'row'), ('*.b*', 'column')))
  names = ['x.a', 'x.b.a', 'x.b', 'x.c']
  found = [layout.tactic(name) for name in names]
  assert found == ['row', 'row', 'column', 'replicate']


def test_every_rule_has_a_tactic():
  assert {tactic for _, tactic in RULES} <= TACTICS.keys()
  assert RULES[-1] == ('*', 'fsdp')
