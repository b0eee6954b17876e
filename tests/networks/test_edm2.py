import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import CLASSES, B, inputs, make, run, trained
from oracle import Gaussian

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2 import EDM2, SIZES
from flowdistill.networks.edm2_layers import (
  Forced,
  forced,
  mp_cat,
  mp_silu,
  mp_sum,
  unit,
)
from flowdistill.networks.edm2_times import coefficients, noise_level
from flowdistill.training.named_arrays import by_name

COUNTS = {
  'xs': (125, 124_710_949, 124_713_253),
  's': (280, 280_209_381, 280_212_837),
  'm': (498, 497_803_173, 497_807_781),
  'l': (777, 777_492_325, 777_498_085),
  'xl': (1119, 1_119_276_837, 1_119_283_749),
  'xxl': (1523, 1_523_156_709, 1_523_164_773),
}
"""Millions in tables 2 and 3 of the paper, and of pixels and of latents."""
SLOW = [pytest.param(k, marks=pytest.mark.slow) for k in COUNTS if k != 's']


@pytest.mark.parametrize('size', ['s', *SLOW])
def test_it_has_the_parameters_that_were_published(size):
  """Besides them only the embedding of the second time, and constants."""
  millions, *counts = COUNTS[size]
  for channels, count in zip((3, 4), counts, strict=True):
    assert round(count / 1e6) == millions
    spec = DataSpec.labelled((64, 64, channels), 1000)
    net = nnx.eval_shape(
      lambda spec=spec: EDM2(spec, **SIZES[size], rngs=nnx.Rngs(0))
    )
    sizes = {path: x.size for path, x in by_name(nnx.state(net)).items()}
    ours = re.compile(r'of_s\.|(logvar_)?fourier\.')
    assert sum(n for path, n in sizes.items() if not ours.match(path)) == count


def test_layers_preserve_magnitude():
  rng = np.random.default_rng(0)
  a, b = (jnp.asarray(rng.normal(size=(4000, n))) for n in (6, 30))

  def size(x):
    return float(jnp.sqrt(jnp.square(x).mean()))

  assert size(mp_silu(b)) == pytest.approx(1, abs=0.01)
  assert size(mp_sum(a, b[:, :6], 0.3)) == pytest.approx(1, abs=0.02)
  both = mp_cat(a, b)
  assert size(both) == pytest.approx(1, abs=0.02)
  assert jnp.square(both[:, :6]).sum() == pytest.approx(
    float(jnp.square(both[:, 6:]).sum()), rel=0.05
  )


def test_a_zero_has_no_magnitude_and_a_finite_derivative():
  f = jax.value_and_grad(lambda x: unit(x, -1).sum())
  value, slope = f(jnp.zeros(3))
  assert value == 0
  assert np.isfinite(slope).all()


@pytest.mark.slow
def test_only_weights_are_forced_to_magnitude_1():
  _, params = trained('edm2')
  decayed = jax.tree.map(lambda x: 0.9 * x, params)
  new, old = forced(decayed, params), by_name(params)
  before, after = by_name(decayed), by_name(new)
  kinds = {
    '.'.join(map(str, path)): isinstance(leaf, Forced)
    for path, leaf in nnx.to_flat_state(params)
  }
  assert jax.tree.structure(new) == jax.tree.structure(params)
  assert sum(kinds.values()) > 20
  for path, is_forced in kinds.items():
    w = after[path]
    if is_forced:
      size = np.sqrt(np.square(w).mean(tuple(range(w.ndim - 1))))
      np.testing.assert_allclose(size, 1, atol=1e-2)
    else:
      constant = 'fourier' in path
      np.testing.assert_array_equal(w, (old if constant else before)[path])


@pytest.mark.usefixtures('x64')
def test_the_velocity_is_that_of_the_denoiser():
  """(x_t − D(x_t / (1 − t); σ)) / t, with D = c_skip x + c_out N(c_in x)."""
  t, std = jnp.linspace(0.01, 0.99, 99), 0.5
  x, sigma = jnp.cos(9 * t), t / (1 - t)

  def output(x):
    return jnp.sin(3 * x) + 0.2

  total = sigma**2 + std**2
  edm = x / (1 - t)
  denoised = std**2 / total * edm
  denoised += sigma * std / jnp.sqrt(total) * output(edm / jnp.sqrt(total))
  a, b, c = coefficients(t, std)
  v = a * x - b * output(c * x)
  np.testing.assert_allclose(v, (x - denoised) / t, rtol=1e-10, atol=1e-12)
  np.testing.assert_allclose(noise_level(t, 'edm'), jnp.log(sigma).clip(
    np.log(0.002), np.log(80)) / 4, atol=1e-12)  # fmt: skip


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('std', [0.3, 0.5, 1.0])
def test_the_velocity_of_a_gaussian_is_its_closed_form(std):
  """Its denoiser is D = x std² / (std² + σ²), so for sigma_data = ½ ..."""
  flow, data = Gaussian(std), 0.5
  t = jnp.linspace(0.01, 0.99, 99)
  x, sigma = jnp.cos(9 * t), t / (1 - t)
  edm = x / (1 - t)
  denoised = edm * std**2 / (std**2 + sigma**2)
  total = sigma**2 + data**2
  output = (denoised - data**2 / total * edm) * jnp.sqrt(total) / sigma / data
  a, b, _ = coefficients(t, data)
  np.testing.assert_allclose(
    a * x - b * output, flow.velocity(x, t), rtol=1e-9, atol=1e-12
  )
  if std == data:  # N = 0, at both ends too
    ends = jnp.array([0.0, 1.0])
    np.testing.assert_allclose(coefficients(ends, data)[0], flow.rate(ends))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('kind', ['edm', 'linear'])
def test_it_is_finite_at_both_ends_with_its_derivative(dtype, kind):
  t = jnp.array([0.0, 1.0], dtype)
  for f in (
    lambda t: jnp.stack(coefficients(t, 0.5)),
    lambda t: noise_level(t, kind),
  ):
    value, slope = jax.jvp(f, (t,), (jnp.ones_like(t),))
    assert value.dtype == jnp.float32
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_network_is_finite_at_both_ends(dtype):
  net = trained('edm2', dtype=dtype, time='edm')
  x, _, _, cond = inputs('edm2')
  for t in (jnp.zeros(B), jnp.ones(B)):
    u, slope = jax.jvp(
      lambda t: run(*net, x.astype(dtype), t, 0 * t, cond), (t,), (t + 1,)
    )
    assert np.isfinite(u).all()
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_the_null_label_adds_nothing():
  graph, params = trained('edm2')
  x, t, s, _ = inputs('edm2')
  other = {'label': jnp.full(B, CLASSES)}, {'label': jnp.full(B, CLASSES + 7)}
  u, same = (run(graph, params, x, t, s, cond) for cond in other)
  np.testing.assert_array_equal(u, same)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'width': 0}, 'width = 0 must be at least 1'),
    ({'time': 'log'}, "time = 'log' must be one of 'edm', 'linear'"),
    ({'sigma_data': 0.0}, 'sigma_data = 0.0 must be above 0'),
    ({'head_channels': 5}, 'head_channels = 5 makes 3 heads of a layer of 16'),
    ({'attention': (3,)}, 'attention = (3,) must be heights of levels, which'),
    ({'dropout': 1.0}, 'dropout = 1.0 must lie in [0, 1)'),
  ],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    nnx.eval_shape(lambda: make('edm2', **options))
