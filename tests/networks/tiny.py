"""A tiny one of every network, with all its parameters away from zero."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.config.bind import options as options_of
from flowdistill.flow.spec import DataSpec
from flowdistill.networks import NETWORKS
from flowdistill.networks.options import NetworkOptions

B, CLASSES = 3, 5
IMAGE = (4, 6, 2)
SHAPES = {
  'adm': IMAGE,
  'dit': IMAGE,
  'edm2': IMAGE,
  'edm_adm': IMAGE,
  'edm_ncsnpp': IMAGE,
  'mlp': (2,),
  'mmdit': IMAGE,
  'ncsnpp': IMAGE,
  'sit': IMAGE,
  'unet': IMAGE,
}
UNET = {
  'nf': 8,
  'res_blocks': 1,
  'ch_mult': (1, 2),
  'attention': (2,),
  'dropout': 0.0,
  'time_scale': 16.0,  # 999 is too fast for a difference quotient
}
LIGHT = {
  'width': 8,
  'res_blocks': 1,
  'ch_mult': (1, 2),
  'attention': 2,
  'head_channels': 8,
}
EDM2 = {
  **{k: v for k, v in LIGHT.items() if k != 'attention'},
  'attention': (2,),
  'time': 'linear',  # 'edm' has no twin branch
}
EDM = {
  **{k: v for k, v in UNET.items() if k != 'time_scale'},
  'time': 'linear',  # 'edm' has no twin branch
}
FLOWS = [name for name, net in NETWORKS.items() if net.signature == 'average']
EVERY = pytest.mark.parametrize('name', FLOWS)
U_NETS = ('adm', 'edm2', 'edm_adm', 'edm_ncsnpp', 'ncsnpp', 'unet')
# They compile for many seconds.
NAMES = pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=pytest.mark.slow) if name in U_NETS else name
    for name in FLOWS
  ],
)


SMALL = {
  'adm': {**UNET, 'head_channels': 8},
  'dit': {'width': 16, 'depth': 2, 'heads': 2},
  'edm2': EDM2,
  'edm_adm': {**EDM, 'head_channels': 8},
  'edm_ncsnpp': EDM,
  'mlp': {'width': 16, 'depth': 2},
  'mmdit': {'width': 16, 'depth': 2, 'heads': 2},
  'ncsnpp': UNET,
  'sit': {'width': 16, 'depth': 2, 'heads': 2},
  'unet': LIGHT,
}


def make(
  name: str, *, spec: DataSpec | None = None, **options: Any
) -> nnx.Module:
  """A small network; options that all share are given flat, as in a config."""
  spec = spec or DataSpec.labelled(SHAPES[name], CLASSES)
  own = options.keys() - options_of(NetworkOptions)
  shared = {k: v for k, v in options.items() if k not in own}
  return NETWORKS[name](
    spec,
    **SMALL[name] | {k: options[k] for k in own},
    options=NetworkOptions(**shared),
    rngs=nnx.Rngs(0),
  )


def unlabelled(name: str) -> DataSpec:
  """The spec of a network's data without classes."""
  return DataSpec.labelled(SHAPES[name], 0)


def fresh(name: str, **options: Any):
  """(graph, params) at initialisation."""
  graph, _ = nnx.split(nnx.eval_shape(lambda: make(name, **options)))
  return graph, jax.jit(lambda: nnx.split(make(name, **options))[1])()


def changed(params, change):
  """Parameters with change(path, value) in the place of every value."""
  flat = {
    path: leaf.replace(jnp.asarray(change(path, leaf.get_value())))
    for path, leaf in nnx.to_flat_state(params)
  }
  return nnx.from_flat_state(flat)


def trained(name: str, weights=np.float32, **options: Any):
  """(graph, params) with no parameter at zero where it may have started."""
  rng = np.random.default_rng(0)
  graph, params = nnx.split(nnx.eval_shape(lambda: make(name, **options)))

  def drawn(path, w):
    # A matrix by its fan-in, a vector at 1/2, and a gain of EDM2 at 1.
    fan_in = w.shape[-2] if len(w.shape) > 1 else 4 if w.shape else 1
    return (fan_in**-0.5 * rng.normal(size=w.shape)).astype(weights)

  return graph, changed(params, drawn)


@functools.partial(jax.jit, static_argnums=0)
def run(graph, params, x, t, s, cond, key=None):
  return nnx.merge(graph, params)(x, t, s, cond, key=key)


def inputs(name: str, dtype=np.float32):
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.normal(size=(B, *SHAPES[name])), dtype)
  t, s = jnp.array([0.9, 0.5, 0.7], dtype), jnp.array([0.1, 0.3, 0.0], dtype)
  return x, t, s, {'label': jnp.array([0, 3, CLASSES])}


def size(x) -> float:
  return float(np.max(np.abs(x)))
