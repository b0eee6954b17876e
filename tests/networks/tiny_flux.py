"""A tiny FLUX, its data and its inputs."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from networks.tiny import changed

from flowdistill.config.bind import options as options_of
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.flux import Flux
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.target_time import TimeOptions

B, IMAGE, TEXT, POOLED = 2, (6, 4, 3), (5, 7), 9
COND = {'text': Condition(TEXT), 'pooled': Condition((POOLED,))}
SPEC = DataSpec(IMAGE, COND)
MASKED = DataSpec(IMAGE, {**COND, 'mask': Condition(TEXT[:1], 'bool', False)})
SMALL = {
  'num_layers': 1,
  'num_single_layers': 1,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'axes_dims_rope': (2, 4, 2),
}


SHARED = options_of(TimeOptions).keys() | options_of(NetworkOptions).keys()


def make(spec=SPEC, **options):
  """Options that are shared with other networks are given flat."""
  timed = options_of(TimeOptions).keys()
  own = {k: options.pop(k) for k in options.keys() - SHARED}
  times = {k: options.pop(k) for k in options.keys() & timed}
  return Flux(
    spec,
    **SMALL | own,
    times=TimeOptions(**times),
    options=NetworkOptions(**options),
    rngs=nnx.Rngs(0),
  )


def shaped(spec=SPEC, **options):
  """(graph, abstract params)."""
  return nnx.split(nnx.eval_shape(lambda: make(spec, **options)))


def trained(spec=SPEC, weights=np.float32, **options):
  """(graph, params) with no parameter at zero, each by its own path."""
  graph, params = shaped(spec, **options)

  def drawn(path, w):
    rng = np.random.default_rng([*'.'.join(map(str, path)).encode()])
    fan_in = w.shape[-2] if path[-1] == 'kernel' else 4
    return (fan_in**-0.5 * rng.normal(size=w.shape)).astype(weights)

  return graph, changed(params, drawn)


def inputs(dtype=np.float32, image=IMAGE, text=TEXT):
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.normal(size=(B, *image)), dtype)
  t, s = jnp.array([0.9, 0.4], dtype), jnp.array([0.2, 0.3], dtype)
  cond = {
    'text': jnp.asarray(rng.normal(size=(B, *text)), dtype),
    'pooled': jnp.asarray(rng.normal(size=(B, POOLED)), dtype),
  }
  return x, t, s, cond
