"""EDM's networks; against their original: tests/convert/test_edm_equivalence.

What all networks promise is in test_networks.py.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import B, inputs, make, run, trained
from oracle import Gaussian

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks import NETWORKS
from flowdistill.networks.edm_preconditioning import (
  IDDPM,
  SIGMAS,
  coefficients,
  noise_level,
  vp_sigma,
)
from flowdistill.training.named_arrays import by_name

NCSNPP = {
  'embedding_type': 'fourier',
  'noise_mult': 2,
  'fir': True,
  'progressive_input': 'residual',
}
COUNTS = [
  ('edm_ncsnpp', (32, 32, 3), 10, {'augment_dim': 9}, 55_735_299),
  ('edm_ncsnpp', (64, 64, 3), 0, {'ch_mult': (1, 2, 2, 2)}, 61_804_419),
  ('edm_ncsnpp', (32, 32, 3), 10, NCSNPP | {'augment_dim': 9}, 56_400_643),
  ('edm_adm', (64, 64, 3), 1000, {}, 295_899_267),
]
"""The published networks; the original's own counts."""
SLOW = COUNTS[1:]
PRECONDS = pytest.mark.parametrize('kind', list(SIGMAS))
BOTH = pytest.mark.parametrize('name', ['edm_ncsnpp', 'edm_adm'])


@pytest.mark.parametrize(
  ('name', 'shape', 'classes', 'options', 'count'),
  [COUNTS[0], *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW)],
)
def test_it_has_the_parameters_that_were_published(
  name, shape, classes, options, count
):
  """Besides them only the embedding of the second time, and constants."""
  spec = DataSpec.labelled(shape, classes)
  net = nnx.eval_shape(
    lambda: NETWORKS[name](spec, **options, rngs=nnx.Rngs(0))
  )
  sizes = {path: x.size for path, x in by_name(nnx.state(net)).items()}
  ours = re.compile(r'times\.(of_s\.|frequencies)')
  assert sum(n for path, n in sizes.items() if not ours.match(path)) == count


def denoiser(kind, x, sigma, network, std=0.5):
  """D(x; σ) of table 1 of EDM, with what it says of c_noise."""
  if kind == 'edm':
    total = np.sqrt(sigma**2 + std**2)
    output = network(x / total, np.log(sigma) / 4)
    return (std / total) ** 2 * x + sigma * std / total * output
  if kind == 've':
    return x + sigma * network(x, np.log(sigma / 2))
  if kind == 'vp':
    time = np.sqrt(0.1**2 + 2 * 19.9 * np.log(1 + sigma**2)) - 0.1
    noise = 999 * time / 19.9
  else:
    nearest = np.abs(sigma[:, None] - IDDPM[::-1]).argmin(1)
    noise = 1000 - 1 - nearest
  return x - sigma * network(x / np.sqrt(sigma**2 + 1), noise)


@pytest.mark.usefixtures('x64')
@PRECONDS
def test_the_velocity_is_that_of_the_denoiser(kind):
  """(x_t − D(x_t / (1 − t); σ)) / t, where it is made for σ."""
  low, high = (sigma / (1 + sigma) for sigma in SIGMAS[kind])
  t = np.linspace(low, high, 99)[1:-1]
  x = np.cos(9 * t)

  def network(x, noise):
    return np.sin(3 * x) + 0.2 + 0.1 * noise

  v = (x - denoiser(kind, x / (1 - t), t / (1 - t), network)) / t
  a, b, c = coefficients(jnp.asarray(t), kind, 0.5)
  noise = noise_level(jnp.asarray(t), kind, 'edm')
  found = a * x - b * network(c * x, noise)
  np.testing.assert_allclose(found, v, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures('x64')
@PRECONDS
def test_the_velocity_of_a_gaussian_is_its_closed_form(kind):
  flow = Gaussian(0.3)
  low, high = (sigma / (1 + sigma) for sigma in SIGMAS[kind])
  t = jnp.linspace(low, high, 99)[1:-1]
  x, sigma = jnp.cos(9 * t), t / (1 - t)
  a, b, _ = coefficients(t, kind, 0.5)
  edm = x / (1 - t)
  wanted = edm * flow.std**2 / (flow.std**2 + sigma**2)

  def answered(output):
    return np.asarray(denoiser(kind, edm, sigma, lambda *_: output))

  # D is affine in the output, so two outputs tell the one of this D.
  zero, one = answered(0.0), answered(1.0)
  output = (wanted - zero) / (one - zero)
  np.testing.assert_allclose(
    a * x - b * output, flow.velocity(x, t), rtol=1e-8, atol=1e-10
  )


@PRECONDS
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('time', ['edm', 'linear'])
def test_it_is_finite_at_both_ends_with_its_derivative(kind, dtype, time):
  t = jnp.array([0.0, 1.0], dtype)
  for f in (
    lambda t: jnp.stack(coefficients(t, kind, 0.5)),
    lambda t: noise_level(t, kind, time),
  ):
    value, slope = jax.jvp(f, (t,), (jnp.ones_like(t),))
    assert value.dtype == jnp.float32
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize('kind', ['vp', 've', 'iddpm'])
def test_beyond_the_largest_noise_it_answers_as_there(kind):
  last = SIGMAS[kind][1] / (1 + SIGMAS[kind][1])
  at_last, beyond, before = (
    jnp.stack(
      [*coefficients(t, kind, 0.5), noise_level(t, kind, 'edm')]
    )
    for t in (jnp.full(1, last), jnp.ones(1), jnp.full(1, last - 0.01))
  )  # fmt: skip
  np.testing.assert_allclose(beyond, at_last, rtol=1e-4)
  assert np.abs(before - at_last).max() > 0.1


@pytest.mark.usefixtures('x64')
def test_noise_levels_are_the_steps_that_they_were_trained_at():
  times = np.array([1e-5, 0.1, 0.5, 1.0])
  sigma = np.array([vp_sigma(time) for time in times])
  found = noise_level(jnp.asarray(sigma / (1 + sigma)), 'vp', 'edm')
  np.testing.assert_allclose(found, 999 * times, rtol=1e-6)
  steps = np.array([0, 1, 500, 999])
  sigma = IDDPM[steps]
  found = noise_level(jnp.asarray(sigma / (1 + sigma)), 'iddpm', 'edm')
  np.testing.assert_array_equal(found, steps)
  assert len(IDDPM) == 1000
  assert (np.diff(IDDPM) > 0).all()


@BOTH
def test_a_student_that_embeds_t_has_the_arrays_of_the_teacher(name):
  shapes = [
    {n: x.shape for n, x in by_name(nnx.split(net)[1]).items()}
    for net in (
      nnx.eval_shape(lambda time=time: make(name, time=time))
      for time in ('edm', 'linear')
    )
  ]
  assert shapes[0] == shapes[1]


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_network_is_finite_at_both_ends(name, dtype):
  x, _, _, cond = inputs(name)
  for precond in SIGMAS:
    net = trained(name, dtype=dtype, time='edm', precond=precond)
    for t in (jnp.zeros(B), jnp.ones(B)):
      u, slope = jax.jvp(
        lambda t, net=net: run(*net, x.astype(dtype), t, 0 * t, cond),
        (t,),
        (t + 1,),
      )
      assert np.isfinite(u).all()
      assert np.isfinite(slope).all()


@pytest.mark.slow
@BOTH
def test_an_augmentation_is_a_condition(name):
  spec = DataSpec.labelled((4, 6, 2), 5)
  spec = DataSpec(
    spec.shape, {**spec.cond, 'augment': Condition((9,), 'float32', 0.0)}
  )
  graph, params = trained(name, spec=spec, augment_dim=9)
  x, t, s, cond = inputs(name)
  plain = run(graph, params, x, t, s, cond)
  none = run(graph, params, x, t, s, cond | {'augment': jnp.zeros((B, 9))})
  some = run(graph, params, x, t, s, cond | {'augment': jnp.ones((B, 9))})
  np.testing.assert_allclose(none, plain, atol=1e-6)
  assert np.abs(some - plain).max() > 1e-3


def test_frequencies_are_not_trained():
  net = nnx.eval_shape(lambda: make('edm_ncsnpp', embedding_type='fourier'))
  params = jax.tree.map(lambda x: jnp.ones(x.shape), nnx.split(net)[1])
  after = by_name(net.project(jax.tree.map(lambda x: 2 * x, params), params))
  moved = {path for path, x in after.items() if x.max() == 2}
  assert set(after) - moved == {'times.frequencies'}


@BOTH
@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'nf': 0}, 'nf = 0 must be at least 1'),
    ({'nf': 7}, 'nf and noise_mult make 7 features of the noise level, which'),
    ({'time': 'log'}, "time = 'log' must be one of 'edm', 'linear'"),
    ({'precond': 'edm2'}, "precond = 'edm2' must be one of 'edm', 'vp', 've'"),
    ({'sigma_data': 0.0}, 'sigma_data = 0.0 must be above 0'),
    ({'augment_dim': -1}, 'augment_dim = -1 must be at least 0'),
    ({'embedding_mult': 0}, 'embedding_mult = 0 must be at least 1'),
    ({'attention': (3,)}, 'attention = (3,) must be heights of levels, which'),
    ({'dropout': 1.0}, 'dropout = 1.0 must lie in [0, 1)'),
  ],
)
def test_options_out_of_range_raise(name, options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    nnx.eval_shape(lambda: make(name, **options))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'embedding_type': 'adm'}, "embedding_type = 'adm' must be one of 'pos"),
    ({'progressive': 'residual'}, "progressive = 'residual' must be one of"),
    ({'progressive_input': 'x'}, "progressive_input = 'x' must be one of"),
  ],
)
def test_branches_that_edm_has_not_raise(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    nnx.eval_shape(lambda: make('edm_ncsnpp', **options))


@BOTH
def test_an_augmentation_of_another_length_is_named(name):
  spec = DataSpec((4, 6, 2), {'augment': Condition((4,), 'float32', 0.0)})
  with pytest.raises(ValueError, match=f"^{name} takes no condition 'augment'"):
    make(name, spec=spec)
  message = r"^augment_dim = 9 must be .* 'augment', whose shape is \[4\]"
  with pytest.raises(ValueError, match=message):
    make(name, spec=spec, augment_dim=9)
