"""Muon takes orthogonal steps of kernels, and steps of Adam of all else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from flowdistill.networks.stack import Stack
from flowdistill.training.muon import RMS, matrices
from flowdistill.training.optim import OPTIMISERS, make_optimiser

RATE = 1e-2


class Block(nnx.Module):
  def __init__(self, rngs):
    self.linear = nnx.Linear(8, 24, rngs=rngs)
    self.norm = nnx.LayerNorm(24, rngs=rngs)

  def __call__(self, h, *, key=None):
    return h


class Network(nnx.Module):
  def __init__(self, rngs):
    self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    self.blocks = Stack(Block, 2, remat=None, rngs=rngs)
    self.words = nnx.Embed(5, 8, rngs=rngs)
    self.last = nnx.Linear(24, 6, rngs=rngs)


def params_of():
  return nnx.to_pure_dict(nnx.state(Network(nnx.Rngs(0)), nnx.Param))


def gradient_of(params):
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  pairs = zip(keys, leaves, strict=True)
  return structure.unflatten([jax.random.normal(k, x.shape) for k, x in pairs])


def step(tx, params, gradient):
  return tx.update(gradient, tx.init(params), params)[0]


@pytest.fixture(scope='module')
def made():
  params = params_of()
  gradient = gradient_of(params)
  optimisers = OPTIMISERS['muon'](lambda _: RATE), optax.nadam(RATE)
  return gradient, *(step(tx, params, gradient) for tx in optimisers)


def as_matrices(update):
  """Each kernel as matrices [..., in, out]."""
  yield update['first']['kernel'].reshape(27, 8)
  yield from update['blocks']['each']['linear']['kernel']
  yield update['last']['kernel']


def test_a_step_of_a_kernel_is_about_orthogonal(made):
  """Its singular values are near one, where those of the gradient are not."""
  gradient, update, _ = made
  pairs = zip(as_matrices(gradient), as_matrices(update), strict=True)
  for before, after in pairs:
    unit = -RATE * RMS * np.sqrt(max(after.shape))
    values = np.linalg.svd(after / unit, compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.3
    u, _, v = np.linalg.svd(before, full_matrices=False)
    along = np.diag(u.T @ (after / unit) @ v.T)  # and it has its directions
    np.testing.assert_allclose(along, values.mean(), atol=0.45)
    assert abs(float(jnp.std(after)) / (RATE * RMS) - 1) < 0.3


def test_all_else_has_a_step_of_adam_with_nesterovs_momentum(made):
  _, update, of_nadam = made

  def same(path, ours, theirs):
    kernel = 'kernel' in jax.tree_util.keystr(path)
    assert np.allclose(ours, theirs, rtol=1e-5) != kernel, path

  jax.tree.map_with_path(same, update, of_nadam)


def test_which_arrays_are_matrices():
  found = matrices(params_of())
  assert found['first']['kernel'].reduction_axis == (0, 1, 2)
  assert found['blocks']['each']['linear']['kernel'].reduction_axis == (1,)
  assert found['last']['kernel'].output_axis == 1
  for module, name in [('words', 'embedding'), ('last', 'bias')]:
    assert found[module][name] is None


def test_kernels_decay_too():
  params = params_of()
  zero = jax.tree.map(jnp.zeros_like, params)
  tx = OPTIMISERS['muon'](lambda _: RATE, weight_decay=0.5)
  update = step(tx, params, zero)
  jax.tree.map(
    lambda u, p: np.testing.assert_allclose(u, -RATE * 0.5 * p, atol=1e-7),
    update,
    params,
  )


def test_it_works_below_the_options_of_all_optimisers():
  """Clipped, accumulated, of some parameters, with a state in bfloat16."""
  params = params_of()
  tx = make_optimiser(
    OPTIMISERS['muon'](lambda _: RATE),
    clip=1.0, accumulate=2, only='blocks.*', state_dtype='bfloat16',
  )  # fmt: skip
  state, gradient = tx.init(params), gradient_of(params)
  kinds = {str(x.dtype) for x in jax.tree.leaves(state) if x.ndim > 1}
  assert 'bfloat16' in kinds
  for moved in (False, True):
    update, state = tx.update(gradient, state, params)
    inner = update['blocks']['each']['linear']['kernel']
    assert bool(jnp.any(inner != 0)) == moved
    assert not jnp.any(update['last']['kernel'])
  new = optax.apply_updates(params, update)
  assert jax.tree.structure(new) == jax.tree.structure(params)
