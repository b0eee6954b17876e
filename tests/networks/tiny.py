"""A tiny one of every network, with all its parameters away from zero."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flowdistill.networks import NETWORKS
from flowdistill.networks.adm import ADM
from flowdistill.networks.dit import DiT
from flowdistill.networks.mlp import MLP
from flowdistill.networks.ncsnpp import NCSNpp
from flowdistill.networks.unet import UNet

B, CLASSES = 3, 5
IMAGE = (4, 6, 2)
SHAPES = {
  'adm': IMAGE,
  'dit': IMAGE,
  'mlp': (2,),
  'ncsnpp': IMAGE,
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
EVERY = pytest.mark.parametrize('name', NETWORKS)
U_NETS = ('adm', 'ncsnpp', 'unet')  # they compile for many seconds
NAMES = pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=pytest.mark.slow) if name in U_NETS else name
    for name in NETWORKS
  ],
)


def make(name: str, **options: Any) -> nnx.Module:
  new = {
    'adm': functools.partial(ADM, IMAGE, **UNET, head_channels=8),
    'dit': functools.partial(DiT, IMAGE, width=16, depth=2, heads=2),
    'mlp': functools.partial(MLP, SHAPES['mlp'], width=16, depth=2),
    'ncsnpp': functools.partial(NCSNpp, IMAGE, **UNET),
    'unet': functools.partial(UNet, IMAGE, **LIGHT),
  }[name]
  return new(**{'num_classes': CLASSES, **options}, rngs=nnx.Rngs(0))


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
    scale = (w.shape[-2] if len(w.shape) > 1 else 4) ** -0.5
    return (scale * rng.normal(size=w.shape)).astype(weights)

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
