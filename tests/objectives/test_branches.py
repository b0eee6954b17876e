"""The kinds of examples of TwinFlow, and their times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.recursions import (
  NAMES,
  N,
  batch,
  noted,
  only,
  wavy,
)

from flowdistill.flow import times
from flowdistill.flow.times import fixed
from flowdistill.objectives.branches import Kinds, times_of
from flowdistill.objectives.roles import Roles
from flowdistill.objectives.twinflow import twinflow

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
EVERY = Kinds(one=1.0)


def test_kinds_are_drawn_for_each_example_by_their_weights():
  n, kinds = 40_000, Kinds(e2e=1.0, mul=2.0, any=3.0, adv=4.0, one=0.0)
  kind = kinds.draw(KEY, n)
  assert tuple(kind) == NAMES
  np.testing.assert_array_equal(sum(m.astype(int) for m in kind.values()), 1)
  for name, share in zip(NAMES, (0.1, 0.2, 0.3, 0.4, 0.0), strict=True):
    assert float(kind[name].mean()) == pytest.approx(share, abs=0.01)
    assert kinds.share(name) == pytest.approx(share)
  assert not kind['one'].any()
  assert kinds.share('any', 'adv') == pytest.approx(0.7)


@pytest.mark.parametrize('name', NAMES)
def test_a_kind_alone_is_always_drawn(name):
  kind = only(**{name: 0.3}).draw(KEY, 100)
  assert {k for k, mask in kind.items() if mask.any()} == {name}
  assert kind[name].all()


@pytest.mark.parametrize(
  ('ratio', 'gap', 'any_mean', 'mul_mean'),
  [
    (1.0, 0.05, 0.5, 0.025),
    (0.4, 0.05, 0.2, 0.025),
    (0.02, 0.05, 0.01, 0.01),  # the less of both
    (1.0, 0.0, 0.5, 0.0),
    (0.0, 0.05, 0.0, 0.0),
  ],
)
def test_the_times_of_every_kind(ratio, gap, any_mean, mul_mean):
  """A jump is uniform up to its longest, as a share of t."""
  n = 20_000
  kind = EVERY.draw(KEY, n)
  t, s = times_of(jax.random.key(1), kind, times.uniform, ratio, gap)
  assert (s >= 0).all() and (s <= t).all() and (t <= 1).all()
  ends = kind['e2e']
  assert (t[ends] == 1).all() and (s[ends] == 0).all()
  assert (s[kind['one']] == 0).all()
  np.testing.assert_array_equal(s[kind['adv']], t[kind['adv']])
  for name, mean in (('any', any_mean), ('mul', mul_mean)):
    share = 1 - s[kind[name]] / t[kind[name]]
    assert float(share.mean()) == pytest.approx(mean, abs=0.02 * mean + 1e-12)
    assert float(share.max()) == pytest.approx(2 * mean, rel=0.01, abs=1e-12)
  for name in NAMES[1:]:
    assert float(t[kind[name]].mean()) == pytest.approx(0.5, abs=0.02)


def test_the_law_of_times_is_an_option():
  asked = []
  nets = Roles(student=noted(wavy, asked))
  options = {'kinds': only(any=1.0), 'matching': 0.0}
  twinflow(
    nets, batch(), KEY, 0, times=lambda key, n: fixed(key, n, t=0.7), **options
  )
  ((_, t, s, _),) = asked
  np.testing.assert_array_equal(t, jnp.float32(0.7))
  assert len(np.unique(s)) == N


@pytest.mark.parametrize(
  ('weights', 'message'),
  [
    ({'adv': -1.0}, 'adv = -1.0 must be at least 0'),
    ({'mul': float('inf')}, 'mul = inf must be at least 0, and finite'),
    ({'any': float('nan')}, 'any = nan must be'),
    (dict.fromkeys(NAMES, 0.0), 'the weights of the kinds are all 0'),
  ],
)
def test_weights_out_of_range_are_named(weights, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    Kinds(**weights)
