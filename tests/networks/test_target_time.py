"""The embedding of (t, s): its forms, and what they leave as it was."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import changed, size

from flowdistill.networks.target_time import (
  FEATURES,
  FORMS,
  TargetTime,
  TimeOptions,
  copy_first,
  sinusoid,
)
from flowdistill.training.named_arrays import by_name

WIDTH = 5
T, S = [0.9, 0.55, 0.002], [0.3, 0.55, 0.0]


def times(form, dtype=np.float32, **options):
  """Random layers, and (t, s)."""
  how = TimeOptions(target_time=form, **options)
  graph, params = nnx.split(
    nnx.eval_shape(lambda: TargetTime(WIDTH, how, rngs=nnx.Rngs(0)))
  )
  rng = np.random.default_rng(0)
  drawn = changed(
    params,
    lambda _, w: (len(w.shape) * 0.1 * rng.normal(size=w.shape)).astype(dtype),
  )
  return nnx.merge(graph, drawn), jnp.array(T, dtype), jnp.array(S, dtype)


def without_second(layers):
  """The pretrained embedding, of t alone."""
  net, *_ = times(None)
  nnx.update(net.of_t, nnx.state(layers.of_t))
  return net


def test_features_are_cos_then_sin_of_a_thousand_times_t():
  found = np.asarray(sinusoid(jnp.array([0.5, 0.001])))
  exact = 1e4 ** (-np.arange(128) / 128) * np.array([[500.0], [1.0]])
  wanted = np.concatenate([np.cos(exact), np.sin(exact)], axis=-1)
  assert found.shape == (2, FEATURES)
  np.testing.assert_allclose(found, wanted, atol=5e-5)


def test_a_time_in_bfloat16_is_not_what_it_was():
  """So it must come in float32: within 1/256 of t = 0.9 all times are one."""
  t = jnp.array([0.9])
  rounded = sinusoid(t.astype(jnp.bfloat16))
  assert rounded.dtype == jnp.float32
  assert size(rounded - sinusoid(t)) > 0.5


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('form', FORMS)
def test_the_formula_of_each_form(form):
  net, t, s = times(form, np.float64)
  e = net.of_t(sinusoid(t))
  gap = (t - s)[:, None]
  wanted = {
    'scaled_gap': lambda: e + gap * net.of_s(sinusoid(s)),
    'sum': lambda: e + net.of_s(sinusoid(s)),
    'gated': lambda: 0.75 * e + 0.25 * net.of_s(sinusoid(t - s)),
    'midpoint': lambda: net.of_t(sinusoid((t + s) / 2)),
  }[form]()
  np.testing.assert_allclose(net(t, s), wanted, rtol=1e-12)
  assert size(net(t, s) - net(t, t)) > 1e-3


def test_without_a_target_time_s_is_ignored():
  net, t, s = times(None)
  np.testing.assert_array_equal(net(t, s), net(t, t))
  assert TimeOptions().signature == 'velocity'
  assert TimeOptions(target_time='sum').signature == 'average'


@pytest.mark.parametrize('jitted', [False, True])
@pytest.mark.parametrize('form', ['scaled_gap', 'midpoint'])
def test_at_equal_times_it_is_pretrained_to_the_bit(form, jitted):
  """Whatever e₂ is."""
  how = nnx.jit if jitted else lambda f: f
  net, t, s = times(form)
  e = how(lambda net, t, s: net(t, s))(net, t, t)
  v = how(lambda net, t, s: net(t, s))(without_second(net), t, t)
  np.testing.assert_array_equal(e, v)
  assert size(net(t, s) - v) > 1e-3


def test_a_sum_with_zero_is_pretrained_to_the_bit():
  net, t, s = times('sum')
  v = without_second(net)(t, s)
  assert size(net(t, s) - v) > 1e-3
  nnx.update(net.of_s, jax.tree.map(jnp.zeros_like, nnx.state(net.of_s.second)))
  for part in (net.of_s.second.kernel, net.of_s.second.bias):
    part.set_value(jnp.zeros_like(part[...]))
  np.testing.assert_array_equal(net(t, s), v)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('sign', [False, True])
@pytest.mark.parametrize('form', [None, *FORMS])
def test_tangents_are_finite_and_right(form, sign):
  """Against differences of order four; at s = 0 and s = t too."""
  net, t, s = times(form, np.float64, sign=sign)
  t, s = t + 1e-3, s + 1e-3  # |t| has two derivatives at 0
  for direction in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
    dt, ds = (jnp.full_like(t, d) for d in direction)
    slope = jax.jvp(net, (t, s), (dt, ds))[1]

    def moved(h, dt=dt, ds=ds):
      return net(t + h * dt, s + h * ds)

    h = 1e-5
    near, far = moved(h) - moved(-h), moved(2 * h) - moved(-2 * h)
    scale = max(size(slope), 1.0)
    assert size(slope - (8 * near - far) / (12 * h)) < 1e-6 * scale, direction
    if form is not None:
      assert size(slope) > 1e-2


@pytest.mark.parametrize('form', FORMS)
def test_tangents_in_float32_are_finite_at_the_ends(form):
  net, *_ = times(form)
  for t, s in ((1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (-1.0, -1.0)):
    point = jnp.array([t]), jnp.array([s])
    value, slope = jax.jvp(net, point, (jnp.ones(1), jnp.ones(1)))
    assert value.dtype == slope.dtype == jnp.float32
    assert np.isfinite([size(value), size(slope)]).all()


def made(**options):
  how = TimeOptions(target_time='scaled_gap', **options)
  return TargetTime(WIDTH, how, rngs=nnx.Rngs(0))


def test_the_second_embedding_at_initialisation():
  t, s = jnp.array(T), jnp.array(S)
  zero, copied, fresh = (made(second=n) for n in ('zero', 'copied', 'fresh'))
  np.testing.assert_array_equal(zero(t, s), zero(t, t))
  one, two = sinusoid(t), sinusoid(t)
  np.testing.assert_array_equal(copied.of_s(two), copied.of_t(one))
  assert size(fresh.of_s(two) - fresh.of_t(one)) > 1e-2
  assert size(fresh.of_s(two)) > 1e-2
  buffers = {id(x) for x in jax.tree.leaves(nnx.state(copied))}
  assert len(buffers) == len(jax.tree.leaves(nnx.state(copied)))


def test_a_copy_follows_what_was_loaded():
  """But an e₂ that was loaded itself stays."""
  params = nnx.state(times('scaled_gap', second='copied')[0])
  before = by_name(params)
  after = by_name(copy_first(params, [n for n in before if 'of_t' in n]))
  for name in before:
    first = name.replace('of_s', 'of_t')
    np.testing.assert_array_equal(after[name], before[first], err_msg=name)
  kept = by_name(copy_first(params, list(before)))
  for name in before:
    np.testing.assert_array_equal(kept[name], before[name], err_msg=name)
  assert TimeOptions(target_time='sum', second='copied').derive is copy_first
  assert TimeOptions(target_time='sum').derive is None


def test_negative_times():
  """They differ in the sines, or by a learned vector alone."""
  t = jnp.array(T[:2])
  plain, *_ = times('sum')
  assert size(plain(-t, -t) - plain(t, t)) > 1e-2
  signed, *_ = times('sum', sign=True)
  difference = signed(-t, -t) - signed(t, t)
  np.testing.assert_allclose(
    difference, jnp.broadcast_to(signed.sign[...], (2, WIDTH)), atol=1e-5
  )
  start = made(sign=True)
  np.testing.assert_array_equal(start(-t, -t), start(t, t))
  slope = jax.jvp(
    signed, (jnp.zeros(1), jnp.zeros(1)), (jnp.ones(1), jnp.zeros(1))
  )[1]
  assert size(slope) > 1e-2  # |t| would have none at 0


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'target_time': 'gap'},
      "target_time = 'gap' must be None or one of 'scaled_gap', 'sum', 'gated'",
    ),
    ({'second': 'copy'}, "second = 'copy' must be one of 'zero', 'copied', 'f"),
    (
      {'second': 'fresh'},
      "second = 'fresh' has no effect with target_time = None: no e₂ embeds s",
    ),
    (
      {'second': 'copied', 'target_time': 'midpoint'},
      "second = 'copied' has no effect with target_time = 'midpoint'",
    ),
    ({'gate': 1.0}, 'gate = 1.0 must lie in (0, 1)'),
    (
      {'gate': 0.5, 'target_time': 'sum'},
      "gate = 0.5 has no effect with target_time = 'sum'",
    ),
  ],
)
def test_options_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    TimeOptions(**options)
