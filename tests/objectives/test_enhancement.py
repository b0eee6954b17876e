"""Enhancement: guidance in the target, and who says its velocities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.jumps import N, apart, batch, drawn, exact
from objectives.recursions import (
  CONDITIONAL,
  UNCONDITIONAL,
  at,
  guided,
  of_label,
  residual,
  wavy,
)
from oracle import Gaussian

from flowdistill.flow.couplings import paired
from flowdistill.flow.losses import mean_square
from flowdistill.flow.weighting import uniform
from flowdistill.objectives.rcgm import rcgm
from flowdistill.objectives.roles import Roles

pytestmark = pytest.mark.usefixtures('x64')
KEY = jax.random.key(0)
# Then the loss is the mean of g² over an example, and v is the teacher's.
PLAIN = {'clip': None, 'loss': 'l2', 'weight': uniform}
DISTIL = {**PLAIN, 'distil': True}


@pytest.mark.parametrize('ratio', [0.8, 3.0])
def test_the_exact_map_of_the_enhanced_flow_is_where_it_ends(ratio):
  """v_c + ratio (v_c − v_u) of two Gaussians is linear, with f known. The
  short step has to be enhanced too, or the residual would not fall with δ."""

  nets = Roles(student=guided(1 + ratio, -ratio), teacher=of_label)
  options = {**DISTIL, 'times': at(*apart()), 'target': 'frozen'}
  run = functools.partial(rcgm, nets, batch(CONDITIONAL), KEY, 0, **options)
  coarse, fine, other = (
    np.sqrt(run(delta=delta, enhanced_ratio=r)[0]).mean()
    for delta, r in ((2e-3, ratio), (1e-3, ratio), (1e-3, ratio / 2))
  )
  assert coarse / fine == pytest.approx(2, rel=0.03)
  assert fine < other / 10


@pytest.mark.parametrize('distil', [False, True])
@pytest.mark.parametrize('target', ['student', 'ema', 'frozen'])
def test_who_says_the_velocities_of_the_enhancement(target, distil):
  """At s = t, where g = F − v, and the loss is the mean of its square."""
  data, t = batch(CONDITIONAL), jnp.full(N, 0.6)
  scales = {'student': 0.5, 'ema': 2.0, 'frozen': 3.0}
  nets = Roles(
    student=lambda x, t, s, cond: 0.5 * of_label(x, t, cond),
    ema=lambda x, t, s, cond: 2 * of_label(x, t, cond),
    teacher=lambda *a: 3 * of_label(*a),
  )
  x_t, v = drawn(data, t)
  better, worse = (f.velocity(x_t, t) for f in (CONDITIONAL, UNCONDITIONAL))
  v = 3 * better if distil else v
  loss, _ = rcgm(
    nets,
    data,
    KEY,
    0,
    times=at(t, t),
    coupling=paired,
    enhanced_ratio=0.7,
    target=target,
    distil=distil,
    **PLAIN,
  )
  g = 0.5 * better - v - 0.7 * scales[target] * (better - worse)
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-9)


def test_a_frozen_teacher_leaves_the_jumps_to_the_student():
  data, (t, s) = batch(CONDITIONAL), apart()
  x_t, v = drawn(data, t)
  nets = Roles(student=wavy, teacher=of_label)
  better, worse = (of_label(x_t, t, data[c]) for c in ('cond', 'null'))
  v = v + 4 * (better - worse)
  g = residual(wavy, wavy(x_t, t, s), v, x_t, t, s, 2, 0.01)
  options = {**PLAIN, 'times': at(t, s), 'coupling': paired}
  loss, _ = rcgm(
    nets, data, KEY, 0, enhanced_ratio=4.0, target='frozen', **options
  )
  np.testing.assert_allclose(loss, mean_square(g), rtol=1e-9)


@pytest.mark.parametrize(
  ('t', 'inside'),
  [(0.25, False), (0.26, True), (0.74, True), (0.75, False), (0.9, False)],
)
def test_the_range_of_the_enhancement_is_open(t, inside):
  data, t = batch(CONDITIONAL), jnp.array(t)
  nets = Roles(student=lambda x, t, s, cond: 0 * x, teacher=of_label)
  options = {**DISTIL, 'times': at(t, t), 'coupling': paired}
  loss, _ = rcgm(
    nets,
    data,
    KEY,
    0,
    target='frozen',
    enhanced_ratio=2.0,
    enhanced_range=(0.25, 0.75),
    **options,
  )
  x_t, _ = drawn(data, jnp.full(N, t))
  v, worse = (f.velocity(x_t, t) for f in (CONDITIONAL, UNCONDITIONAL))
  expected = mean_square(v + 2 * (v - worse) if inside else v)
  np.testing.assert_allclose(loss, expected, rtol=1e-9)


def test_enhancement_asks_for_conditions():
  data = batch(Gaussian()) | {'cond': {}, 'null': {}}
  with pytest.raises(
    ValueError, match=r'^enhanced_ratio = 0.8 must be 0: this'
  ):
    rcgm(exact(Gaussian()), data, KEY, 0, enhanced_ratio=0.8)
