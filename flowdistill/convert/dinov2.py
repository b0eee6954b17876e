"""Weights of DINOv2, both ways.

Three libraries name them:

  original       blocks.0.attn.qkv.weight, of facebookresearch/dinov2 and timm
  transformers   encoder.layer.0.attention.attention.query.weight, of files
  transformers5  encoder.layer.0.attention.q_proj.weight, in its memory

The mask token, which only training uses, is not read. A network with registers
is refused by the name of its first one.

Source of the names: https://github.com/facebookresearch/dinov2; transformers
5.24, `Dinov2Model`.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert import dialects
from flowdistill.convert.dialects import Dialect, Rules
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Shapes, needed

NAMING = Naming(
  'DINOv2',
  r'(?:cls_token$|pos_embed$|register_tokens$|mask_token$|patch_embed\.'
  r'|blocks\.|norm\.|embeddings\.|encoder\.layer\.|layernorm\.)',
  r'mask_token$',
)
KERNEL, VECTOR, IMAGE = (1, 0), (0,), (2, 3, 1, 0)
TRANSFORMERS = ('transformers', 'transformers5')
# Ours, in the original, and in transformers below embeddings and layers.
ONCE = {
  'patches.token': (('cls_token',), ('embeddings.cls_token',), VECTOR, 2),
  'patches.position': (
    ('pos_embed',),
    ('embeddings.position_embeddings',),
    (0, 1),
    1,
  ),
  'patches.patch.kernel': (
    ('patch_embed.proj.weight',),
    ('embeddings.patch_embeddings.projection.weight',),
    IMAGE,
    0,
  ),
  'patches.patch.bias': (
    ('patch_embed.proj.bias',),
    ('embeddings.patch_embeddings.projection.bias',),
    VECTOR,
    0,
  ),
  'norm.scale': (('norm.weight',), ('layernorm.weight',), VECTOR, 0),
  'norm.bias': (('norm.bias',), ('layernorm.bias',), VECTOR, 0),
}
PARTS = {
  'qkv': (
    ('attn.qkv',),
    tuple(f'attention.attention.{n}' for n in ('query', 'key', 'value')),
    tuple(f'attention.{n}_proj' for n in 'qkv'),
  ),
  'out': (('attn.proj',), ('attention.output.dense',), ('attention.o_proj',)),
  'fc1': (('mlp.fc1',),) * 3,
  'fc2': (('mlp.fc2',),) * 3,
  'norm1': (('norm1',),) * 3,
  'norm2': (('norm2',),) * 3,
}
"""A part of our layer -> its names in the three dialects."""
DIALECTS = ('original', *TRANSFORMERS)
ABOVE = ('blocks.{}', 'encoder.layer.{}', 'encoder.layer.{}')


def _layer_rules() -> dict[str, dict[str, Dialect]]:
  rules = {}
  for part, names in PARTS.items():
    first = 'scale' if part.startswith('norm') else 'kernel'
    for ours, theirs in ((first, 'weight'), ('bias', 'bias')):
      axes = KERNEL if ours == 'kernel' else VECTOR
      rules[f'layers.each.{part}.{ours}'] = {
        dialect: Dialect(tuple(f'{above}.{n}.{theirs}' for n in its), axes)
        for dialect, above, its in zip(DIALECTS, ABOVE, names, strict=True)
      }
  for i in (1, 2):
    names = (f'ls{i}.gamma', *(f'layer_scale{i}.lambda1',) * 2)
    rules[f'layers.each.scale{i}'] = {
      dialect: Dialect((f'{above}.{name}',), VECTOR)
      for dialect, above, name in zip(DIALECTS, ABOVE, names, strict=True)
    }
  return rules


RULES: Rules = {
  path: {'original': Dialect(original, axes, lead)}
  | {name: Dialect(other, axes, lead) for name in TRANSFORMERS}
  for path, (original, other, axes, lead) in ONCE.items()
} | _layer_rules()


def from_torch(arrays: Mapping[str, np.ndarray], shapes: Shapes) -> Arrays:
  """PyTorch's arrays as float32 by the paths of our network.

  Raises:
    ValueError: as `dialects.read`.
  """
  return dialects.read(arrays, shapes, RULES, NAMING)


def to_torch(arrays: Mapping[str, np.ndarray], dialect: str) -> Arrays:
  """Our arrays by PyTorch's names in a dialect."""
  return dialects.write(arrays, RULES, dialect)


def wanted(names: Iterable[str]) -> list[str]:
  """The names in a file, with any known prefixes, that are read."""
  return needed(names, NAMING, ema=False)
