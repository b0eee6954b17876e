"""Folders as diffusers saves them, of tiny networks."""

import functools
import json

import numpy as np
from networks import tiny_flux, tiny_sd3
from safetensors.numpy import save_file

from flowdistill.convert import CONVERTERS
from flowdistill.training.named_arrays import by_name

FLUX = {
  '_class_name': 'FluxTransformer2DModel',
  '_diffusers_version': '0.42.1',
  'patch_size': 1,
  'in_channels': 12,
  'out_channels': None,
  'num_layers': 1,
  'num_single_layers': 2,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'joint_attention_dim': 7,
  'pooled_projection_dim': 9,
  'guidance_embeds': True,
  'axes_dims_rope': [2, 4, 2],
}
SD3 = {
  '_class_name': 'SD3Transformer2DModel',
  **tiny_sd3.options_of('medium_3_5'),
}
KINDS = {'flux': (FLUX, tiny_flux.SPEC), 'sd3': (SD3, tiny_sd3.spec())}


@functools.cache
def shapes(network):
  """Our path -> shape."""
  if network == 'sd3':
    return tiny_sd3.shapes(tiny_sd3.options_of('medium_3_5'))
  _, params = tiny_flux.shaped(num_single_layers=2, guidance_embeds=True)
  return {n: x.shape for n, x in by_name(params).items()}


def tensors(network, own=None):
  """Those of our arrays, drawn, by the names of diffusers."""
  rng = np.random.default_rng(0)
  drawn = {n: rng.normal(size=s) for n, s in (own or shapes(network)).items()}
  ours = {n: x.astype(np.float32) for n, x in drawn.items()}
  theirs = CONVERTERS[network].to_torch(ours, 0)
  return {n: np.array(x, order='C') for n, x in theirs.items()}


def save(folder, config, arrays, parts=1):
  """Writes a folder with its weights in so many files."""
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  name = 'diffusion_pytorch_model'
  if parts == 1:
    save_file(arrays, folder / f'{name}.safetensors')
    return
  where = {}
  for i in range(parts):
    file = f'{name}-{i + 1:05d}-of-{parts:05d}.safetensors'
    own = dict(list(arrays.items())[i::parts])
    save_file(own, folder / file)
    where |= dict.fromkeys(own, file)
  text = json.dumps({'metadata': {}, 'weight_map': where})
  (folder / f'{name}.safetensors.index.json').write_text(text)
