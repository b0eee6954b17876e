"""Tiny FLUX and SD3 of two times, with no parameter at zero."""

import jax
import numpy as np
from flax import nnx

from flowdistill.build.pipelines import embedded_guidance
from flowdistill.convert import CONVERTERS
from flowdistill.convert.diffusers_writing import write_folder
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.flux import Flux
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.sd3 import SD3
from flowdistill.networks.sd3_config import SD3Config
from flowdistill.networks.target_time import TimeOptions
from flowdistill.training.named_arrays import by_name

B, SIDE, CHANNELS, WORDS, TEXT, POOLED = 2, 4, 3, 5, 48, 40
SPEC = DataSpec(
  (SIDE, SIDE, CHANNELS),
  {'text': Condition((WORDS, TEXT)), 'pooled': Condition((POOLED,))},
)
SHARED = {'attention_head_dim': 8, 'num_attention_heads': 2}
SIZES = {
  'flux': {
    **SHARED,
    'patch_size': 1,
    'num_layers': 1,
    'num_single_layers': 1,
    'axes_dims_rope': (2, 4, 2),
  },
  'sd3': {
    **SHARED,
    'sample_size': SIDE,
    'patch_size': 2,
    'num_layers': 2,
    'pos_embed_max_size': 3,
    'dual_attention_layers': (0,),
    'qk_norm': 'rms_norm',
  },
}
SCALES = np.array([1.5, 4.0], np.float32)


def options_of(name, form, *, scaled=False, sign=False, embeds=True):
  """Those of the config; `embeds` a guidance scale, as FLUX.1-dev does."""
  scale = 2.5 if embeds else 3.5  # the default
  embedded = {'distilled_guidance': scale, 'guidance_embeds': embeds}
  embedded = embedded if name == 'flux' else {}
  return {
    'name': name,
    **SIZES[name],
    **embedded,
    'target_time': form,
    'gate': 0.4 if form == 'gated' else 0.25,
    'sign': sign,
    'scalars': ('guidance',) if scaled else (),
    'max_frequency': 9.0,
  }


def made(network, spec=SPEC):
  """(graph, params)."""
  times = TimeOptions(
    **{k: network[k] for k in ('target_time', 'gate', 'sign')}
  )
  options = NetworkOptions(
    scalars=network['scalars'], max_frequency=network['max_frequency']
  )
  given = {'times': times, 'options': options, 'rngs': nnx.Rngs(0)}
  sizes = SIZES[network['name']]
  if network['name'] == 'flux':
    own = {k: network[k] for k in ('distilled_guidance', 'guidance_embeds')}
    net = Flux(spec, **sizes, **own, **given)
  else:
    net = SD3(spec, config=SD3Config(**sizes), **given)
  graph, params = nnx.split(net)
  rng = np.random.default_rng(0)
  return graph, jax.tree.map(
    lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), params
  )


def written(path, network, params, **how):
  """Writes a folder of diffusers."""
  rules = CONVERTERS[network['name']]
  theirs = rules.to_torch(by_name(params), 0, network=network)
  write_folder(path, network, theirs, **how)


def inputs(network):
  """x and conditions."""
  rng = np.random.default_rng(1)

  def draw(*shape):
    return rng.normal(size=(B, *shape)).astype(np.float32)

  cond = {'text': draw(WORDS, TEXT), 'pooled': draw(POOLED)}
  cond |= dict.fromkeys(network['scalars'], SCALES)
  if (scale := embedded_guidance(network)) is not None:
    cond['distilled_guidance'] = np.full(B, scale, np.float32)
  return draw(SIDE, SIDE, CHANNELS), cond
