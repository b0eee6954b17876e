"""A state of all kinds of arrays, as training saves it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """A small one of the kind that training has."""

  step: jax.Array
  params: nnx.State
  opt_state: optax.OptState
  emas: dict[str, nnx.State]
  odd: dict[str, jax.Array]


@functools.cache
def make_state(seed: int, width: int = 8) -> State:
  normal = np.random.default_rng(seed).standard_normal

  def make_params() -> nnx.State:
    kernel, bias = normal((3, width), np.float32), normal(width, np.float32)
    return nnx.State({'kernel': nnx.Param(kernel), 'bias': nnx.Param(bias)})

  params = make_params()
  tx = optax.MultiSteps(optax.chain(optax.clip(1.0), optax.adam(1e-3)), 2)
  odd = {
    'half': np.array([1.1, np.nan, -np.inf, -0.0, 1e-40], jnp.bfloat16),
    'bits': np.array([[0, 1], [2**31, 2**32 - 1]], np.uint32),
    'flags': np.array([True, False]),
    'large': normal((64, 64), np.float32),
    'small': np.int8(-7),
    "named/like 'that' [0].value": np.array([np.nan, 1e-42], np.float32),
  }
  emas = {'0.05': make_params(), 'slow': make_params()}
  opt_state = jax.tree.map(
    lambda p: normal(p.shape).astype(p.dtype), tx.init(params)
  )
  state = State(np.uint32(seed), params, opt_state, emas, odd)
  return jax.device_put(state)


def abstract(state):
  return jax.eval_shape(lambda: state)


def assert_identical(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
