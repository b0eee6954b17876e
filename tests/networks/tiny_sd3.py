"""Tiny configurations of SD3, which together enter every branch."""

import numpy as np
from flax import nnx

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.sd3 import SD3
from flowdistill.networks.sd3_config import SD3Config
from flowdistill.networks.target_time import TimeOptions
from flowdistill.training.named_arrays import by_name

SIDE, TEXT, JOINT, POOLED, CHANNELS = (10, 6), 3, 12, 10, 3
SMALL = {
  'sample_size': 12,
  'patch_size': 2,
  'in_channels': CHANNELS,
  'num_layers': 2,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'joint_attention_dim': JOINT,
  'caption_projection_dim': 16,
  'pooled_projection_dim': POOLED,
  'out_channels': CHANNELS,
  'pos_embed_max_size': 8,
  'dual_attention_layers': (),
  'qk_norm': None,
}
"""A config.json, with every field that the published ones have."""
BRANCHES = {
  'medium': {},
  'medium_3_5': {
    'num_layers': 4,
    'dual_attention_layers': (0, 1),
    'qk_norm': 'rms_norm',
  },
  'large_3_5': {
    'num_layers': 7,  # so that a scan runs the blocks
    'num_attention_heads': 3,
    'caption_projection_dim': 24,
    'qk_norm': 'rms_norm',
  },
  'dual_last': {
    'num_layers': 3,
    'dual_attention_layers': (2, 0),
    'patch_size': 1,
    'pos_embed_max_size': 11,
  },
  'one_block': {'num_layers': 1, 'num_attention_heads': 1,
    'caption_projection_dim': 8, 'qk_norm': 'rms_norm'},
}  # fmt: skip


def options_of(branch):
  """The config.json of a branch."""
  return {**SMALL, **BRANCHES[branch]}


def spec(shape=(*SIDE, CHANNELS), **more):
  """Data with captions; `more` are other conditions, None for none."""
  cond = {
    'text': Condition((TEXT, JOINT)),
    'pooled': Condition((POOLED,)),
    **more,
  }
  return DataSpec(shape, {k: c for k, c in cond.items() if c is not None})


def make(config=SMALL, *, data=None, times=None, masked=True, **shared):
  """A network of a config.json; `shared` are options of all networks."""
  return SD3(
    data or spec(),
    config=SD3Config(**config),
    masked=masked,
    times=TimeOptions(**(times or {})),
    options=NetworkOptions(**shared),
    rngs=nnx.Rngs(0),
  )


def built(config=SMALL, **options):
  """(graph, abstract parameters)."""
  return nnx.split(nnx.eval_shape(lambda: make(config, **options)))


def shapes(config=SMALL, **options):
  params = built(config, **options)[1]
  return {path: x.shape for path, x in by_name(params).items()}


def shapes_of(branch):
  return shapes(options_of(branch))


def inputs(batch=2, sides=SIDE, seed=1):
  """x [b, h, w, c], t, s [b] and the conditions; the last token is zero."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(batch, *sides, CHANNELS)).astype(np.float32)
  t = np.linspace(0.95, 0.15, batch).astype(np.float32)
  s = (0.3 * t).astype(np.float32)
  text = rng.normal(size=(batch, TEXT, JOINT)).astype(np.float32)
  text[0, -1] = 0  # padding
  pooled = rng.normal(size=(batch, POOLED)).astype(np.float32)
  return x, t, s, {'text': text, 'pooled': pooled}
