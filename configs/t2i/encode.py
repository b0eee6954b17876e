r"""Encodes captioned pictures and their captions for FLUX.1 or SD3, once.

  python -m flowdistill.main --workdir runs/encoded --job=encode \
    --config configs/t2i/encode.py:flux,pictures=P.parquet,pipeline=FLUX.1-dev

The argument is a comma-separated list: `flux` or `sd3`; `pictures=`, parquet
files with the columns image_bytes and text (docs/data.md); `pipeline=`, a
folder as diffusers saves it, with the autoencoder, the text encoders and their
tokenizers; `side=`, that of the pictures in pixels, by default 1024; and
`runlocal`. The latents are in W/latents/latents, the captions in
W/captions/captions.

Its time: not yet measured.
"""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import ConfigError, beside, choose

published = beside(__file__, 'published')

KNOWN = ('pictures', 'pipeline', 'side')
SPACES = {
  'flux': {'scale': 0.3611, 'shift': 0.1159},
  'sd3': {'scale': 1.5305, 'shift': 0.0609},
}
ENCODERS = {
  'flux': {'clip_l': '', 't5_xxl': '_2'},
  'sd3': {'clip_l': '', 'clip_g': '_2', 't5_xxl': '_3'},
}
"""Text encoder -> the end of its folders in a pipeline."""
WEIGHTS = 'diffusion_pytorch_model.safetensors'


def text_encoder(model: str, pipeline: str) -> dict[str, Any]:
  """Those of a pipeline of diffusers."""
  paths = dict[str, str]()
  for name, end in ENCODERS[model].items():
    paths[name] = f'{pipeline}/text_encoder{end}'
    paths[f'{name}_tokenizer'] = f'{pipeline}/tokenizer{end}'
  return {'name': model, **paths, 'dtype': 'bfloat16'}


def get_config(arg: str = '') -> ConfigDict:
  model, *rest = arg.split(',')
  choose(model, SPACES, default='flux')
  model = model or 'flux'
  words = published.given(','.join(rest), KNOWN)
  pipeline = words.get('pipeline', 'PIPELINE')
  if not (side := words.get('side', '1024')).isdecimal():
    raise ConfigError(f'config argument side={side} must be a number')
  vae = {'vae': f'{pipeline}/vae/{WEIGHTS}'}
  pictures = {
    'name': 'parquet',
    'path': words.get('pictures', 'PICTURES.parquet'),
    'size': int(side),
  }
  encode = {'job': 'encode', 'dataset': pictures, 'dtype': 'float16'}
  return ConfigDict(
    {
      'stages': {
        'latents': {**encode, 'space': published.space(vae, **SPACES[model])},
        'captions': {**encode, 'text_encoder': text_encoder(model, pipeline)},
      },
    },
    sort_keys=False,
  )
