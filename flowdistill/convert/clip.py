"""Weights of CLIP, both ways.

Two libraries name them:

  openai        visual.transformer.resblocks.0.attn.in_proj_weight; OpenCLIP too
  transformers  vision_model.encoder.layers.0.self_attn.q_proj.weight

OpenAI's own files are TorchScript archives, which are code and not read. This
writes one in PyTorch that is:

  state = torch.jit.load('ViT-B-32.pt', map_location='cpu').state_dict()
  safetensors.torch.save_file(
    {n: w.contiguous() for n, w in state.items() if w.is_floating_point()},
    'ViT-B-32.safetensors')

Source of the names: https://github.com/openai/CLIP; transformers 5.24,
`CLIPModel`, whose pre_layrnorm is spelt so.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from flowdistill.convert import dialects
from flowdistill.convert.dialects import Dialect, Rules
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Shapes, needed

NAMING = Naming(
  'CLIP',
  r'(?:visual\.|transformer\.|token_embedding\.|positional_embedding$|ln_final\.'
  r'|text_projection|logit_scale$|vision_model\.|text_model\.|visual_projection)',
  r'position_ids$',
)
DIALECTS = ('openai', 'transformers')
KERNEL, SAME, IMAGE = (1, 0), (0, 1), (2, 3, 1, 0)
VECTOR, NUMBER = (0,), ()
IMAGES, TEXTS = 'vision_model.embeddings', 'text_model.embeddings'
ONCE = {
  'logit_scale': ('logit_scale', NUMBER, 'logit_scale', NUMBER),
  'image_tower.patches.token': (
    *('visual.class_embedding', VECTOR),
    *(f'{IMAGES}.class_embedding', VECTOR),
  ),
  'image_tower.patches.position': (
    *('visual.positional_embedding', SAME),
    *(f'{IMAGES}.position_embedding.weight', SAME),
  ),
  'image_tower.patches.patch.kernel': (
    *('visual.conv1.weight', IMAGE),
    *(f'{IMAGES}.patch_embedding.weight', IMAGE),
  ),
  'image_tower.out.kernel': (
    *('visual.proj', SAME),
    *('visual_projection.weight', KERNEL),
  ),
  'text_tower.words.embedding': (
    *('token_embedding.weight', SAME),
    *(f'{TEXTS}.token_embedding.weight', SAME),
  ),
  'text_tower.position': (
    *('positional_embedding', SAME),
    *(f'{TEXTS}.position_embedding.weight', SAME),
  ),
  'text_tower.out.kernel': (
    *('text_projection', SAME),
    *('text_projection.weight', KERNEL),
  ),
}
"""Our path -> name and axes at OpenAI, name and axes in transformers."""
NORMS = {
  'image_tower.norm_in': ('visual.ln_pre', 'vision_model.pre_layrnorm'),
  'image_tower.norm_out': ('visual.ln_post', 'vision_model.post_layernorm'),
  'text_tower.norm': ('ln_final', 'text_model.final_layer_norm'),
}
TOWERS = {
  'image_tower': (
    'visual.transformer.resblocks',
    'vision_model.encoder.layers',
  ),
  'text_tower': ('transformer.resblocks', 'text_model.encoder.layers'),
}
PARTS = {
  'out': ('attn.out_proj', 'self_attn.out_proj'),
  'fc1': ('mlp.c_fc', 'mlp.fc1'),
  'fc2': ('mlp.c_proj', 'mlp.fc2'),
  'norm1': ('ln_1', 'layer_norm1'),
  'norm2': ('ln_2', 'layer_norm2'),
}
"""A part of our layer -> its names at OpenAI and in transformers."""


def _pair(
  ours: str, openai: str, others: tuple[str, ...]
) -> tuple[str, dict[str, Dialect]]:
  """The rule of an array that is one at OpenAI."""
  axes = KERNEL if ours.endswith('kernel') else VECTOR
  return ours, {
    'openai': Dialect((openai,), axes),
    'transformers': Dialect(others, axes),
  }


def _affine(ours: str, openai: str, other: str) -> Rules:
  """Those of a layer with a weight and a bias."""
  first = 'scale' if '.norm' in ours else 'kernel'
  return dict(
    _pair(f'{ours}.{mine}', f'{openai}.{its}', (f'{other}.{its}',))
    for mine, its in ((first, 'weight'), ('bias', 'bias'))
  )


def _tower(ours: str, openai: str, other: str) -> Rules:
  """Those of the layers of a tower."""
  rules, each = {}, f'{ours}.layers.each'
  for mine, its in (('kernel', 'weight'), ('bias', 'bias')):
    parts = tuple(f'{other}.{{}}.self_attn.{n}_proj.{its}' for n in 'qkv')
    name = f'{openai}.{{}}.attn.in_proj_{its}'
    rules |= [_pair(f'{each}.qkv.{mine}', name, parts)]
  for part, (here, there) in PARTS.items():
    rules |= _affine(
      f'{each}.{part}', f'{openai}.{{}}.{here}', f'{other}.{{}}.{there}'
    )
  return rules


def _rules() -> Rules:
  rules: dict[str, Mapping[str, Dialect]] = {
    path: {'openai': Dialect((a,), x), 'transformers': Dialect((b,), y)}
    for path, (a, x, b, y) in ONCE.items()
  }
  for ours, names in NORMS.items():
    rules |= _affine(ours, *names)
  for ours, names in TOWERS.items():
    rules |= _tower(ours, *names)
  return rules


RULES = _rules()


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
