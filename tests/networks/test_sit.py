import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import changed, inputs, make, run, size, trained

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.sit import SIZES, Patches, SiT, positions
from flowdistill.networks.sit_times import KINDS, SiTTimes, features
from flowdistill.training.named_arrays import by_name

COUNTS = {
  'S': (32_963_360, 32_945_024, 33_148_160),
  'B': (130_512_416, 130_475_648, 130_881_536),
  'L': (458_102_816, 458_053_760, 458_594_816),
  'XL': (675_129_632, 675_074_432, 675_683_072),
}
"""Of SiT's code at patches of 2, 4 and 8, with outputs for a variance."""
MILLIONS = {'S': 33, 'B': 130, 'L': 458, 'XL': 675}
"""Of table 4 of DiT's paper at patches of 2."""
SLOW = [
  pytest.param(size, patch, marks=pytest.mark.slow)
  for size in COUNTS
  for patch in (2, 4, 8)
  if (size, patch) != ('XL', 2)
]


def shapes(**options):
  spec = DataSpec.labelled((32, 32, 4), 1000)
  net = nnx.eval_shape(lambda: SiT(spec, **options, rngs=nnx.Rngs(0)))
  return {path: x.size for path, x in by_name(nnx.state(net)).items()}


@pytest.mark.parametrize(('name', 'patch'), [('XL', 2), *SLOW])
def test_it_has_the_parameters_that_were_published(name, patch):
  """Besides them only the embedding of the second time."""
  sizes = shapes(size=name, patch=patch, variance=True)
  count = sum(n for path, n in sizes.items() if '.of_s.' not in path)
  assert count == COUNTS[name][(2, 4, 8).index(patch)]
  assert abs(count / 1e6 - MILLIONS[name]) < 1


def test_meanflow_has_one_size_more():
  """M, as deep as 16 of L's 24 blocks."""
  large, medium = (
    shapes(size=name, time='mean_flow')['blocks.each.qkv.kernel']
    for name in ('L', 'M')
  )
  assert 16 * large == 24 * medium
  assert set(SIZES) == {*COUNTS, 'M'}


def test_positions_go_by_rows_and_columns():
  """Those of row 1 and column 2, with frequencies 1 and 1/100."""
  found = positions((2, 3), 8)[0, 5]
  j, i = [2, 2 / 100], [1, 1 / 100]
  wanted = np.concatenate([np.sin(j), np.cos(j), np.sin(i), np.cos(i)])
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_patches_are_a_convolution():
  x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
  layer = drawn(lambda: Patches(2, 3, 5, rngs=nnx.Rngs(0)))
  axes = ('NHWC', 'HWIO', 'NHWC')
  convolved = jax.lax.conv_general_dilated(
    x, layer.kernel[...], (2, 2), 'VALID', dimension_numbers=axes
  )
  wanted = convolved.reshape(2, 6, 5) + layer.bias[...]
  np.testing.assert_allclose(layer(x), wanted, rtol=1e-4, atol=1e-5)


def drawn(build):
  """A network or layer with random parameters, and no random initialisation."""
  graph, params = nnx.split(nnx.eval_shape(build))
  rng = np.random.default_rng(0)
  return nnx.merge(
    graph, changed(params, lambda _, w: rng.normal(size=w.shape))
  )


def embedded(kind, t, s):
  """e(t, s) of random layers, and its layers."""
  times = drawn(
    lambda: SiTTimes(4, kind=kind, max_frequency=16.0, rngs=nnx.Rngs(0))
  )
  return times(t, s), times


@pytest.mark.usefixtures('x64')
def test_the_times_of_each_convention():
  t, s = jnp.array([0.9, 0.4]), jnp.array([0.2, 0.4])
  for kind, time in (('sit', 1 - t), ('repa', t)):
    e, layers = embedded(kind, t, s)
    second = (t - s)[:, None] * layers.of_s(s)
    np.testing.assert_allclose(e, layers.of_t(time) + second, rtol=1e-12)
  e, layers = embedded('mean_flow', t, s)
  np.testing.assert_allclose(e, layers.of_t(t) + layers.of_gap(t - s))


def test_the_features_of_a_time_bound_its_derivative():
  found = features(jnp.array([0.5]))[0]
  np.testing.assert_allclose(found[:2], np.cos([0.5, 0.5 * 1e4 ** (-1 / 128)]))
  assert found[128] == pytest.approx(np.sin(0.5))
  slope = jax.jvp(features, (jnp.array([0.5]),), (jnp.ones(1),))[1]
  assert size(slope) < 1


@pytest.mark.slow
@pytest.mark.parametrize('time', KINDS)
def test_outputs_for_a_variance_are_not_used(time):
  x, t, s, cond = inputs('sit')
  graph, params = trained('sit', variance=True, time=time)
  plain, _ = trained('sit', time=time)
  channels = x.shape[-1]

  def used(path, w):
    if path[0] != 'last':
      return w
    rows = w.reshape(*w.shape[:-1], -1, 2, channels)
    return rows[..., 0, :].reshape(*w.shape[:-1], -1)

  u = run(graph, params, x, t, s, cond)
  v = run(plain, changed(params, used), x, t, s, cond)
  np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)
  assert size(u) > 1e-2


@pytest.mark.slow
def test_at_initialisation_mean_flow_is_the_same_at_every_gap():
  x, t, s, cond = inputs('sit')
  graph, params = trained('sit', time='mean_flow')
  still = changed(
    params, lambda path, w: 0 * w if path[1:3] == ('of_gap', 'second') else w
  )
  start = SiTTimes(8, kind='mean_flow', max_frequency=1.0, rngs=nnx.Rngs(0))
  assert not np.any(start.of_gap.second.kernel[...])
  u = run(graph, still, x, t, s, cond)
  np.testing.assert_array_equal(u, run(graph, still, x, t, t, cond))
  assert size(u - run(graph, params, x, t, s, cond)) > 1e-3


def test_positions_do_not_decay():
  _, params = trained('sit')
  decayed = changed(params, lambda _, w: 0.5 * w)
  after = by_name(SiT.project(decayed, params))
  for path, w in by_name(params).items():
    factor = 1 if path == 'position' else 0.5
    np.testing.assert_array_equal(after[path], factor * w, err_msg=path)


@pytest.mark.slow
def test_positions_are_not_trained():
  x, t, s, cond = inputs('sit')
  graph, params = trained('sit')
  grads = jax.grad(lambda p: run(graph, p, x, t, s, cond).sum())(params)
  assert not np.any(by_name(grads)['position'])
  assert np.any(by_name(grads)['first.kernel'])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 'xl'}, "size = 'xl' must be one of 'S', 'B', 'M', 'L', 'XL'"),
    ({'time': 'ddpm'}, "time = 'ddpm' must be one of 'sit', 'repa', 'mean_flo"),
    ({'patch': 4}, 'patch = 4 does not divide 4 x 6'),
    ({'heads': 3}, 'heads = 3 does not divide width = 16'),
    ({'width': 6}, '4 does not divide width = 6'),
    ({'depth': 0}, 'depth = 0 must be at least 1'),
  ],
)
def test_what_is_out_of_range_raises(options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    nnx.eval_shape(lambda: make('sit', **options))


def test_it_takes_images():
  spec = DataSpec.labelled((16,), 0)
  with pytest.raises(ValueError, match=r'a SiT takes images \[h, w, c\], not'):
    SiT(spec, rngs=nnx.Rngs(0))
