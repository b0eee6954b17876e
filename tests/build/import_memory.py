"""Measures the memory of an import of SD3, whose file is sparse zeros.

  python tests/build/import_memory.py WIDTH DEPTH [single]

With `single` it is a single file by the original names.
It prints the size of the file, the size of the placed weights, the peak above
them, and the last over the first. 1536 and 24 are those of SD3 medium, of two
billion numbers.
"""

import json
import pathlib
import resource
import struct
import sys
import tempfile

import numpy as np
from flax import nnx

from flowdistill.build.models import shape_model
from flowdistill.build.published import open_published
from flowdistill.config.sections import Reference
from flowdistill.convert import sd3
from flowdistill.convert.sd3_original import to_original
from flowdistill.convert.stacked import single_shapes
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.sd3 import SD3
from flowdistill.networks.sd3_config import SD3Config
from flowdistill.training.named_arrays import by_name

MB = 1e6


def config_of(width, depth):
  return {
    'sample_size': 128,
    'patch_size': 2,
    'in_channels': 16,
    'num_layers': depth,
    'attention_head_dim': 64,
    'num_attention_heads': width // 64,
    'joint_attention_dim': 4096,
    'caption_projection_dim': width,
    'pooled_projection_dim': 2048,
    'out_channels': 16,
    'pos_embed_max_size': 192,
  }


def write_zeros(path, shapes):
  """A file of tensors in bfloat16 that takes no room on most disks."""
  header, end = {}, 0
  for name, shape in shapes.items():
    size = 2 * int(np.prod(shape))
    offsets = [end, end + size]
    header[name] = {'dtype': 'BF16', 'shape': shape, 'data_offsets': offsets}
    end += size
  text = json.dumps(header).encode()
  with path.open('wb') as file:
    file.write(struct.pack('<Q', len(text)) + text)
    file.truncate(8 + len(text) + end)


def main(width, depth, single=''):
  config = config_of(width, depth)
  spec = DataSpec(
    (128, 128, 16),
    {'text': Condition((333, 4096)), 'pooled': Condition((2048,))},
  )
  model = shape_model(
    lambda: SD3(spec, config=SD3Config(**config), rngs=nnx.Rngs(0))
  )
  ours = single_shapes({n: x.shape for n, x in by_name(model.params).items()})
  theirs = {
    rule.theirs: rule.write(
      np.broadcast_to(np.empty((), np.float32), ours[rule.ours])
    ).shape
    for rule in sd3.make_rules(ours)
  }
  if single:
    bits = {
      n: np.broadcast_to(np.empty((), bool), s) for n, s in theirs.items()
    }
    theirs = {n: x.shape for n, x in to_original(bits).items()}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    file = folder / 'diffusion_pytorch_model.safetensors'
    write_zeros(file, theirs)
    config['_class_name'] = 'SD3Transformer2DModel'
    (folder / 'config.json').write_text(json.dumps(config))
    reference = Reference(str(file) if single else name, dtype='bfloat16')
    found = open_published(reference, spec, 'frozen.teacher')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    params = found.load('bfloat16', None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    placed = sum(x.nbytes for x in by_name(params).values())
    size = file.stat().st_size
  above = peak - before - placed
  print(f'{size / MB:.0f} MB file, {placed / MB:.0f} MB placed', end=', ')
  print(f'{above / MB:.0f} MB above', above / size)


if __name__ == '__main__':
  main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
