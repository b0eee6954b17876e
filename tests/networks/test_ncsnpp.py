import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import B, inputs, make, run, size, trained, unlabelled

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.ncsnpp import NCSNpp
from flowdistill.training.named_arrays import by_name

SMALL = {'ch_mult': (1, 1), 'nf': 4}
BRANCHES = {
  'skips': {
    'progressive': 'output_skip',
    'progressive_input': 'input_skip',
    'fir': True,
    'skip_rescale': False,
  },
  'residual': {
    'progressive': 'residual',
    'progressive_input': 'residual',
    'resblock_type': 'ddpm',
    'embedding_type': 'fourier',
    'fourier_scale': 0.5,
  },
}


@pytest.mark.parametrize(
  ('nf', 'res_blocks', 'ch_mult', 'count'),
  [
    (128, 2, (1, 2, 2), 27_906_179),
    (96, 2, (1, 2, 2), 15_707_235),
    (64, 2, (1, 2, 2), 6_989_891),
    (64, 1, (1, 1, 2), 3_437_123),
    (128, 4, (1, 2, 2, 2), 61_804_419),
  ],
)
def test_it_has_the_parameters_of_the_original(nf, res_blocks, ch_mult, count):
  """And besides them only the embedding of the second time.

  The counts are those of SlimFlow's published PyTorch code, built at these
  sizes for images of 32 x 32 x 3; its paper rounds them to 27.9 M, 15.7 M,
  7.0 M and 3.4 M, and to 61.8 M for the teacher.
  """
  net = nnx.eval_shape(
    lambda: NCSNpp(
      DataSpec((32, 32, 3)),
      nf=nf,
      res_blocks=res_blocks,
      ch_mult=ch_mult,
      rngs=nnx.Rngs(0),
    )
  )
  sizes = {path: leaf.size for path, leaf in by_name(nnx.state(net)).items()}
  second = sum(n for path, n in sizes.items() if 'of_s' in path)
  assert sum(sizes.values()) - second == count
  assert second == 2 * (4 * nf) * (4 * nf + 1)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize(
  'branch', ['skips', pytest.param('residual', marks=pytest.mark.slow)]
)
def test_in_every_branch_jvp_is_the_derivative(branch):
  net = trained('ncsnpp', np.float64, **SMALL, **BRANCHES[branch])
  x, t, s, cond = inputs('ncsnpp', np.float64)
  directions, h = (jnp.cos(7 * x), jnp.ones(B), -jnp.ones(B)), 2e-4

  def moved(h):
    dx, dt, ds = directions
    return run(*net, x + h * dx, t + h * dt, s + h * ds, cond)

  slope = jax.jit(
    lambda *d: jax.jvp(lambda *p: run(*net, *p, cond), (x, t, s), d)[1]
  )(*directions)
  near, far = moved(h) - moved(-h), moved(2 * h) - moved(-2 * h)
  assert size(slope) > 1e-2
  assert size(slope - (8 * near - far) / (12 * h)) < 1e-7 * size(slope)


@pytest.mark.slow
def test_fourier_answers_at_noise_as_just_before_it():
  """log(1 - t) has no end; the original asks at t = 0.999, and so is 1."""
  options = {'embedding_type': 'fourier', 'fourier_scale': 0.5}
  graph, params = trained('ncsnpp', **SMALL, **options)
  x, _, _, cond = inputs('ncsnpp')
  u = [
    run(graph, params, x, jnp.full(B, t), jnp.full(B, t), cond)
    for t in (0.9, 0.999, 1.0)
  ]
  assert np.isfinite(u[2]).all()
  np.testing.assert_allclose(u[2], u[1], atol=1e-4)
  assert size(u[1] - u[0]) > 1e-2


@pytest.mark.slow
def test_frequencies_are_not_learnt():
  graph, params = trained('ncsnpp', **SMALL, embedding_type='fourier')
  grads = jax.grad(lambda p: run(graph, p, *inputs('ncsnpp')).sum())(params)
  by_path = by_name(grads)
  assert size(by_path['times.frequencies']) == 0
  assert size(by_path['times.first.kernel']) > 0


def test_attention_is_where_it_is_asked_for_and_in_the_middle():
  def places(attention):
    net = nnx.eval_shape(lambda: make('ncsnpp', attention=attention))
    paths = by_name(nnx.state(net))
    return {p.partition('.attention')[0] for p in paths if '.attention' in p}

  middle = {'middle.0'}
  assert places(()) == middle
  assert places((4,)) == middle | {'down.0.steps.0', 'up.1.steps.1'}
  assert places((2,)) == middle | {'down.1.steps.0', 'up.0.steps.1'}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'nf': 0}, 'nf = 0 must be at least 1'),
    ({'nf': 3}, 'nf and ch_mult make a layer of '),
    ({'res_blocks': 0}, 'res_blocks = 0 must be at least 1'),
    ({'ch_mult': ()}, 'ch_mult = () must be multiples, each at least 1'),
    ({'ch_mult': (1, 0)}, 'ch_mult = (1, 0) must be multiples, each at'),
    ({'ch_mult': (1, 1, 1)}, 'ch_mult = (1, 1, 1) halves the image 2 times, '),
    ({'attention': (3,)}, 'attention = (3,) must be heights of levels, which'),
    ({'dropout': 1.0}, 'dropout = 1.0 must lie in [0, 1)'),
    ({'resblock_type': 'big'}, "resblock_type = 'big' must be one of 'biggan'"),
    ({'embedding_type': 'x'}, "embedding_type = 'x' must be one of 'position"),
    ({'progressive': 'x'}, "progressive = 'x' must be one of 'none', 'output"),
    ({'progressive_input': 'x'}, "progressive_input = 'x' must be one of 'no"),
    ({'time_scale': 0.0}, 'time_scale = 0.0 must be above 0'),
    ({'fourier_scale': 0.0}, 'fourier_scale = 0.0 must be above 0'),
  ],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    make('ncsnpp', **options)


def test_it_takes_images():
  with pytest.raises(ValueError, match=r'images \[h, w, c\], not \[2\]'):
    make('ncsnpp', spec=unlabelled('mlp'))
