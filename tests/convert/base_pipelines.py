"""Tiny pipelines of diffusers with random weights."""

import diffusers
import torch
from convert.flow_map_networks import CHANNELS, POOLED, SIDE, SIZES, TEXT
from text_encoders import tiny_models as tiny

from flowdistill.convert.pipelines import PIPELINES

FACTOR = 2  # of the autoencoder
PIXELS = SIDE * FACTOR  # of a side of its pictures
TRANSFORMERS = {
  'flux': ('FluxTransformer2DModel', {'in_channels': 4 * CHANNELS}),
  'sd3': (
    'SD3Transformer2DModel',
    {
      'in_channels': CHANNELS,
      'out_channels': CHANNELS,
      'caption_projection_dim': 16,
    },
  ),
}


def encoders(name, folder):
  """Text encoders and tokenizers of a pipeline."""
  t5 = tiny.t5(folder / 't5', width=TEXT)
  t5_tokens = tiny.tokenizer(folder / 't5_tokens', layout='$A </s>', most=512)

  def clip(width, **how):
    model = tiny.clip(folder / f'clip{width}', width=width, **how)
    tokens = folder / f'clip{width}_tokens'
    return model, tiny.tokenizer(tokens, layout='<s> $A </s>', pad='</s>')

  if name == 'flux':
    both = clip(POOLED, projection=False), (t5, t5_tokens)
  else:
    both = clip(16), clip(POOLED - 16), (t5, t5_tokens)
  parts = {}
  for end, (model, tokens) in zip(('', '_2', '_3'), both, strict=False):
    parts |= {f'text_encoder{end}': model, f'tokenizer{end}': tokens}
  return parts


def save_base(name, folder):
  """Writes a whole pipeline, and returns it."""
  torch.manual_seed(0)
  kind, channels = TRANSFORMERS[name]
  transformer = getattr(diffusers, kind)(
    **SIZES[name],
    **channels,
    joint_attention_dim=TEXT,
    pooled_projection_dim=POOLED,
  )
  vae = diffusers.AutoencoderKL(
    latent_channels=CHANNELS,
    block_out_channels=(8, 8),
    norm_num_groups=4,
    down_block_types=('DownEncoderBlock2D',) * FACTOR,
    up_block_types=('UpDecoderBlock2D',) * FACTOR,
    scaling_factor=0.8,
    shift_factor=0.1,
  )
  pipeline = getattr(diffusers, PIPELINES[name])(
    transformer=transformer,
    scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    vae=vae,
    **encoders(name, folder / 'encoders'),
  )
  pipeline.save_pretrained(folder / 'base')
  return pipeline
