"""Weights of PyTorch in our networks, for the tests of equivalence."""

import jax
import numpy as np
from flax import nnx

from flowdistill.training.named_arrays import by_name


def abstract(make):
  """Graph and abstract parameters of a network."""
  return nnx.split(nnx.eval_shape(make))


def shapes_of(params):
  return {name: leaf.shape for name, leaf in by_name(params).items()}


def filled(params, arrays):
  """Abstract parameters with arrays by their paths."""
  flat = nnx.to_flat_state(params)
  return nnx.from_flat_state(
    {path: p.replace(arrays['.'.join(map(str, path))]) for path, p in flat}
  )


def answers(graph, params, *args, method='__call__'):
  """The compiled outputs of a network."""

  def apply(params, *args):
    return getattr(nnx.merge(graph, params), method)(*args)

  return jax.jit(apply)(params, *args)


def of_torch(module):
  """The arrays of a module of PyTorch, shaken so that none is trivial."""
  rng = np.random.default_rng(0)
  for array in module.state_dict().values():
    if array.is_floating_point():
      noise = 0.1 * rng.standard_normal(tuple(array.shape))
      array.numpy()[...] += noise
  return {
    name: array.numpy().copy()
    for name, array in module.state_dict().items()
    if array.is_floating_point()
  }


def assert_close(found, expected):
  """Within 1e-4 of the largest feature."""
  expected = np.asarray(expected)
  scale = np.abs(expected).max()
  assert expected.std() > 0.01 * scale
  np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)
