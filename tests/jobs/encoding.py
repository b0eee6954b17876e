"""A config that encodes digits and trains on them, and what the job writes."""

import json

import numpy as np
from autoencoders.test_kl import TINY, weights_of
from flax import nnx
from jobs import tiny
from networks.features.loading import abstract
from safetensors.numpy import save_file

from flowdistill.autoencoders.kl import AutoencoderKL, KLConfig
from flowdistill.convert.kl import to_torch
from flowdistill.jobs import encode
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import check_stages

CONFIG = """
SPACE = {{
  'name': 'kl', 'path': '{0}/vae.safetensors', 'scaling_factor': 0.5,
  'shift_factor': 0.1, 'block_out_channels': (8, 16), 'layers_per_block': 1,
  'norm_num_groups': 4,
}}

def get_config(arg=''):
  return {{
    'space': SPACE,
    'stages': {{
      'encode': {{
        'job': 'encode', 'dataset': {{'name': 'digits', 'split': 'train'}},
        'shard_size': 600,
      }},
      'flow': {{
        'dataset': {{'name': 'latents', 'path': '{0}/w/encode/latents'}},
        'network': {{
          'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2, 'patch': 1,
        }},
        'objective': 'rectified_flow',
        'train': {{'steps': 3, 'batch_size': 16}},
        'evaluation': {{
          'batch_size': 16, 'features': 'digits',
          'dataset': {{'name': 'digits', 'split': 'train'}},
        }},
        'evaluators': {{
          'few_step': {{
            'name': 'few_step', 'samples': 32,
            'sweep': {{'student': [['euler', 2]]}},
          }},
          'loss': {{'name': 'flow_loss', 'samples': 32}},
        }},
      }},
    }},
  }}
"""


def write_weights(file, seed=0):
  _, params = abstract(
    lambda: AutoencoderKL(KLConfig(**TINY), 1, rngs=nnx.Rngs(0))
  )
  theirs = to_torch(weights_of(params, seed)).items()
  save_file({n: np.ascontiguousarray(a) for n, a in theirs}, file)


def make(config, workdir, *overrides, **options):
  """Runs the job as main does; returns the only folder."""
  chosen = encode.Options(**options)
  blueprints = Blueprints(tiny.stages(config, *overrides), workdir)
  blueprints = encode.only_encoding(blueprints, chosen)
  check_stages(blueprints)
  (folder,) = encode.run(blueprints, chosen)
  return folder


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def manifest_of(folder):
  return json.loads((folder / 'manifest.json').read_text())


def space_and_images(run):
  """Of the stage that encodes."""
  blueprint = Blueprints(tiny.stages(run[0]), run[1])['encode']
  return blueprint.space, blueprint.data
