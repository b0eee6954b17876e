"""Guidance in an interval of time: what it is, and what it costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import Gaussian

from flowdistill.build.sampling import Generator, Guide
from flowdistill.flow.spec import DataSpec
from flowdistill.flow.transport import expand
from flowdistill.samplers.guided import Interval, as_scalars, calls, interval

GOOD, WORSE = Gaussian(std=0.4), Gaussian(std=0.8)
MIDDLE = {'scale': 2.5, 'low': 0.3, 'high': 0.6}
TIMES = (1, 0.8, 0.6, 0.45, 0.3, 0.1, 0)  # both ends of it among them


JUMP = 0.005  # the velocity jumps at its ends, which no tolerance can bound


def apply(params, x, t, s, cond):
  """The worse flow for examples without a label."""
  good, worse = (flow.average_velocity(x, t, s) for flow in (GOOD, WORSE))
  return jnp.where(expand(cond['label'], x) == 9, worse, good)


def combined(params, x, t, s, cond):
  """λ u + (1 − λ) u_worse from 0.3 to 0.6, and u elsewhere."""
  inside = (t >= jnp.float32(0.3)) & (t <= jnp.float32(0.6))
  scale = jnp.where(expand(inside, x), 2.5, 1.0)
  good, worse = (flow.average_velocity(x, t, s) for flow in (GOOD, WORSE))
  return scale * good + (1 - scale) * worse


def conditions(n):
  return {'cond': {'label': np.full(n, 3)}}


def draws(apply, batch_size=4):
  """A generator without parameters; label 9 is the null."""
  spec = DataSpec.labelled((2,), 9)
  return Generator(apply, (), spec, batch_size=batch_size)


@pytest.mark.parametrize(
  ('sampler', 'nfe', 'without'),
  [
    ('euler', 9, 6),
    ('heun', 17, 11),
    ('rk4', 34, 24),
    ('rk45', None, None),
    ('flow_map', 9, 6),
    ('gamma', 9, 6),
  ],
)
def test_it_is_the_combined_velocity_and_every_call_counts(
  sampler, nfe, without
):
  asked = []

  def counted(params, x, t, s, cond):
    jax.debug.callback(lambda label: asked.append(label), cond['label'])
    return apply(params, x, t, s, cond)

  times = (1, 0) if nfe is None else TIMES
  how = {'sampler': sampler, 'grid': {'name': 'explicit', 'times': times}}
  found = draws(counted, 1)(1, nfe=nfe, guidance=MIDDLE, **conditions(1), **how)
  jax.effects_barrier()
  assert found.nfe.tolist() == [len(asked)]
  assert nfe in (None, len(asked))
  assert {3, 9} == set(np.ravel(asked).tolist())
  alone = draws(combined, 1)(1, nfe=without, **how)
  atol = JUMP if nfe is None else 1e-6
  np.testing.assert_allclose(found.x, alone.x, atol=atol)


def test_an_adaptive_step_is_guided_for_each_example_by_its_own_time():
  how = {'sampler': 'rk45', 'nfe': None, 'seed': 4}
  found = draws(apply)(6, guidance=MIDDLE, **conditions(6), **how)
  alone = draws(combined)(6, **how)
  np.testing.assert_allclose(found.x, alone.x, atol=JUMP)
  plain = draws(apply)(6, **conditions(6), **how)
  assert np.min(np.abs(plain.x - alone.x).max(1)) > 4 * JUMP
  # Not of each example: rounding changes where a step is rejected.
  assert found.nfe.sum() > alone.nfe.sum()
  assert len(set(alone.nfe)) > 1


def test_backwards_it_is_guided_too():
  draw, how = draws(apply), {'sampler': 'rk4', 'guidance': 2.0}
  x0 = draw(4, nfe=160, **conditions(4), **how).x
  x1 = draw.encode(x0, nfe=160, **conditions(4), **how)
  noise = draw(4, nfe=160, sampler='rk4', **conditions(4)).x
  again = draw.encode(noise, nfe=80, sampler='rk4', **conditions(4)).x
  np.testing.assert_allclose(x1.x, again, atol=1e-3)


WEAK = {**MIDDLE, 'against': 'weak'}


def autoguided(scalars=()):
  """The better network, with the worse one as the role 'weak'."""

  def good(params, x, t, s, cond):
    return GOOD.average_velocity(x, t, s) * params

  def worse(params, x, t, s, cond):
    if 'guidance' in scalars:  # wrong unless it is asked without guidance
      params = params * expand(cond['guidance'], x)
    return WORSE.average_velocity(x, t, s) * params

  guides = {'weak': Guide(worse, jnp.float32(1), scalars)}
  spec = DataSpec((2,))
  return Generator(good, jnp.float32(1), spec, batch_size=4, guides=guides)


@pytest.mark.parametrize('scalars', [(), ('guidance',)])
@pytest.mark.parametrize(
  ('sampler', 'nfe', 'without'),
  [('euler', 9, 6), ('heun', 17, 11), ('rk45', None, None)],
)
def test_away_from_another_network(sampler, nfe, without, scalars):
  """Also without conditions, which guidance away from null needs."""
  times = (1, 0) if nfe is None else TIMES
  how = {'sampler': sampler, 'grid': {'name': 'explicit', 'times': times}}
  found = autoguided(scalars)(3, nfe=nfe, guidance=WEAK, **how)
  alone = Generator(combined, (), DataSpec((2,)), batch_size=4)
  alone = alone(3, nfe=without, **how)
  atol = JUMP if nfe is None else 1e-6
  np.testing.assert_allclose(found.x, alone.x, atol=atol)
  assert nfe is None or found.nfe.tolist() == [nfe] * 3


def test_back_to_noise_away_from_another_network():
  how = {'sampler': 'rk4', 'guidance': {'scale': 2.0, 'against': 'weak'}}
  draw = autoguided()
  x0 = draw(4, nfe=160, **how).x
  noise = draw.encode(x0, nfe=160, **how).x
  again = draw(4, nfe=80, sampler='rk4').x
  back = draw.encode(again, nfe=80, sampler='rk4').x
  np.testing.assert_allclose(noise, back, atol=1e-3)


@pytest.mark.parametrize(
  ('guidance', 'message'),
  [
    ({'scale': 2.0, 'against': 'week'}, r"against one of \['null', 'weak'\]"),
    ({'scale': 2.0, 'against': 1}, 'must be against one of'),
    ({'scale': 2.0}, 'must be removed: this data set has no conditions'),
    ({'against': 'weak'}, 'must be a number, or a dict like'),
  ],
)
def test_what_cannot_guide(guidance, message):
  with pytest.raises(ValueError, match=message):
    autoguided()(2, nfe=4, guidance=guidance)


def test_a_network_that_takes_the_scale_is_not_guided_by_another():
  draw = dataclasses.replace(autoguided(), scalars=('guidance',))
  with pytest.raises(ValueError, match=r"is conditioned on \['guidance'\]"):
    draw(2, nfe=4, guidance={'scale': 2.0, 'against': 'weak'})


@pytest.mark.parametrize('guidance', [1, 1.0, {'scale': 1.0, 'low': 0.5}])
def test_a_scale_of_one_asks_once(guidance):
  draw = draws(apply)
  plain = draw(3, nfe=8, **conditions(3))
  found = draw(3, nfe=8, guidance=guidance, **conditions(3))
  np.testing.assert_array_equal(found.x, plain.x)
  assert found.nfe.tolist() == [8, 8, 8]


def test_a_new_scale_is_no_new_program():
  traces = []

  def traced(params, x, t, s, cond):
    traces.append(1)
    return apply(params, x, t, s, cond)

  draw = draws(traced)
  first = draw(4, guidance=2.0, **conditions(4))
  before = len(traces)
  second = draw(4, guidance=3.0, **conditions(4))
  assert len(traces) == before
  assert not np.allclose(first.x, second.x)


def test_what_a_call_costs():
  times = np.array([1.0, 0.6, 0.5, 0.3, 0.2], np.float32)
  assert calls(None, times).tolist() == [1, 1, 1, 1, 1]
  assert calls(Interval(2.0), times).tolist() == [2, 2, 2, 2, 2]
  assert calls(Interval(2.0, 0.3, 0.6), times).tolist() == [1, 2, 2, 2, 1]


@pytest.mark.parametrize(
  ('guidance', 'message'),
  [
    ({'low': 0.5}, 'must be a number, or a dict like'),
    ({'scale': 2.0, 'hight': 0.5}, 'must be a number, or a dict like'),
    ('2', 'must be a number'),
    (True, 'must be a number'),
    ({'scale': 2.0, 'low': 0.6, 'high': 0.5}, 'must have 0 <= low <= high <='),
    ({'scale': 2.0, 'low': -0.1}, 'must have 0 <= low'),
    ({'scale': 2.0, 'high': 1.1}, 'must have 0 <= low'),
    (float('nan'), 'must have a finite scale'),
    (float('inf'), 'must have a finite scale'),
  ],
)
def test_what_is_no_guidance(guidance, message):
  with pytest.raises(ValueError, match=rf'^guidance = .* {message}'):
    interval(guidance)


def test_guidance_as_scalar_conditions():
  middle = Interval(3.0, 0.25, 0.5)
  every = ('guidance_high', 'speed', 'guidance', 'guidance_low')
  scalars = {'guidance': 3.0, 'guidance_low': 0.25, 'guidance_high': 0.5}
  assert as_scalars(middle, every) == scalars
  assert as_scalars(None, ['guidance']) == {'guidance': 1.0}
  assert as_scalars(Interval(3.0), ['guidance']) == {'guidance': 3.0}
  assert as_scalars(middle, ['speed']) == {}


@pytest.mark.parametrize(
  ('scalars', 'message'),
  [
    (['guidance'], r'low = 0.0 and high = 1.0: .* on \[.guidance.\] alone$'),
    (['guidance', 'guidance_low'], 'high = 1.0: '),
    (['guidance_low', 'guidance_high'], 'scale = 1.0: '),
  ],
)
def test_a_part_that_a_network_is_not_conditioned_on(scalars, message):
  with pytest.raises(ValueError, match=f'^guidance = .* must have {message}'):
    as_scalars(Interval(3.0, 0.25, 0.5), scalars)
