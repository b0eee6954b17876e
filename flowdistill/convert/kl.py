"""Weights of diffusers' `AutoencoderKL`, both ways.

Our arrays have its names, except that a kernel or a scale is a `weight` there.
Its older files, such as those of Stable Diffusion 1, call the projections of
the attention query, key, value and proj_attn. The files of CompVis, from which
Stable Diffusion came, have other names, count the levels of the decoder from
the largest down, and have 1 x 1 convolutions in the attention. All are read and
written.

Source of the names: https://github.com/huggingface/diffusers, 0.42, and
https://github.com/CompVis/latent-diffusion, ldm/modules/diffusionmodules.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Rule, Shapes, needed, read, write

NAMING = Naming(
  'AutoencoderKL', r'(?:encoder|decoder|quant_conv|post_quant_conv)\.'
)
OLDER = {
  'query': 'to_q',
  'key': 'to_k',
  'value': 'to_v',
  'proj_attn': 'to_out.0',
}
"""Name of a projection in older files -> in newer ones."""
COMPVIS = (
  (r'\.mid_block\.resnets\.0\.', '.mid.block_1.'),
  (r'\.mid_block\.resnets\.1\.', '.mid.block_2.'),
  (r'\.mid_block\.attentions\.0\.', '.mid.attn_1.'),
  (r'\.attn_1\.to_([qkv])\.', r'.attn_1.\1.'),
  (r'\.attn_1\.to_out\.0\.', '.attn_1.proj_out.'),
  (r'\.attn_1\.group_norm\.', '.attn_1.norm.'),
  (r'\.(down|up)_blocks\.(\d+)\.resnets\.', r'.\1.\2.block.'),
  (r'\.(down|up)_blocks\.(\d+)\.\1samplers\.0\.', r'.\1.\2.\1sample.'),
  (r'\.conv_shortcut\.', '.nin_shortcut.'),
  (r'\.conv_norm_out\.', '.norm_out.'),
)
"""In diffusers' names -> in those of CompVis, one after the other."""
NAMES = ('newer', 'older', 'compvis')
LEVEL = r'(?<=^decoder\.up\.)\d+'
ATTENTION = r'(?P<above>\.attentions\.\d+)\.(?P<part>{})\.(?=weight$|bias$)'
AXES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
"""Axes of an array -> the transposition of theirs to ours."""


def make_rules(shapes: Shapes) -> list[Rule]:
  """The rules of a network's arrays: path -> shape."""
  return [
    Rule(path, _theirs(path), AXES[len(shape)])
    for path, shape in shapes.items()
  ]


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Args:
    arrays: by their names in a file, with any known prefixes.
    shapes: path in our network -> shape.

  Raises:
    ValueError: as `rules.read`, or if a projection has both names.
  """
  newer: dict[str, np.ndarray] = {}
  known = [_theirs(path) for path in shapes]
  compvis = {_compvis(name, known): name for name in known}
  for name, array in arrays.items():
    part = NAMING.split(name)
    bare = part and compvis.get(part.bare, part.bare)
    new = _renamed(f'{part.prefix}{bare}' if part else name, OLDER)
    if new in newer or (new != name and new in arrays):
      raise ValueError(f'{name} and {new} are one array: save one of them')
    newer[new] = _linear(new, array)
  return read(newer, shapes, make_rules(shapes), NAMING)


def to_torch(arrays: Arrays, *, names: str = 'newer') -> Arrays:
  """Our arrays by diffusers' names, those of its older files, or CompVis's.

  Args:
    arrays: by the paths of our network.
    names: in NAMES.
  """
  if names not in NAMES:
    raise ValueError(f'names = {names!r} must be one of {NAMES}')
  shapes = {path: array.shape for path, array in arrays.items()}
  theirs = write(arrays, make_rules(shapes))
  if names == 'newer':
    return theirs
  if names == 'compvis':
    return {
      _compvis(name, theirs): array[..., None, None]
      if array.ndim == 2
      else array
      for name, array in theirs.items()
    }
  old_of = {new: old for old, new in OLDER.items()}
  return {_renamed(name, old_of): array for name, array in theirs.items()}


def wanted(names: Iterable[str]) -> list[str]:
  """The names in a file, with any known prefixes, that are read."""
  return needed(names, NAMING, ema=False)


def _theirs(path: str) -> str:
  layer, _, kind = path.rpartition('.')
  return f'{layer}.{"weight" if kind in ("kernel", "scale") else kind}'


def _compvis(name: str, names: Iterable[str]) -> str:
  """A name in a file of CompVis, of a network with these names."""
  for pattern, there in COMPVIS:
    name = re.sub(pattern, there, name)
  ups = (re.match(r'decoder\.up_blocks\.(\d+)\.', each) for each in names)
  last = max((int(up[1]) for up in ups if up), default=0)
  return re.sub(LEVEL, lambda level: str(last - int(level[0])), name)


def _renamed(name: str, names: Mapping[str, str]) -> str:
  pattern = ATTENTION.format('|'.join(map(re.escape, names)))
  return re.sub(pattern, lambda m: f'{m["above"]}.{names[m["part"]]}.', name)


def _linear(name: str, array: np.ndarray) -> np.ndarray:
  """A projection that was saved as a 1 x 1 convolution as a matrix."""
  is_projection = re.search(ATTENTION.format('to_.*'), name)
  one = is_projection and array.ndim == 4 and array.shape[2:] == (1, 1)
  return array[:, :, 0, 0] if one else array
