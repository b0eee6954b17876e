"""EDM2 weights under PyTorch's names, both ways.

Their names contain the resolution at which a block works: in a network for
images of 64 x 64,

  unet.enc.32x32_block0.conv_res0.weight is
  our enc.level1_block0.conv_in.kernel, and
  unet.dec.8x8_in0.attn_qkv.weight is
  our dec.level3_in0.attention.qkv.kernel

The velocity follows from theirs by the preconditioning, which is part of our
network: no sign changes. Gains are scalars; arrays [1] are read too. Only ours
has embeddings of s and scalars.

Source of the names: https://github.com/NVlabs/edm2.
"""

import re

from flowdistill.convert.names import check_once
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Rule, Shapes

NAMING = Naming('EDM2', r'(?:unet\.(?:emb_|enc\.|dec\.|out_)|logvar_)')
SIDE = 'unet.enc.<side>x<side>_conv.weight'
ONLY_OURS = re.compile(r'of_s\.|scalars\.')
BLOCK = re.compile(r'(enc|dec)\.level(\d+)_(\w+)\.(.+)')
INSIDE = {
  'gain': 'emb_gain',
  'conv_in.kernel': 'conv_res0.weight',
  'scale.kernel': 'emb_linear.weight',
  'conv_out.kernel': 'conv_res1.weight',
  'skip.kernel': 'conv_skip.weight',
  'attention.qkv.kernel': 'attn_qkv.weight',
  'attention.out.kernel': 'attn_proj.weight',
}
"""The arrays of a block."""
OUTSIDE = {
  'gain': 'unet.out_gain',
  'fourier.frequencies': 'unet.emb_fourier.freqs',
  'fourier.phases': 'unet.emb_fourier.phases',
  'noise.kernel': 'unet.emb_noise.weight',
  'label.linear.kernel': 'unet.emb_label.weight',
  'last.kernel': 'unet.out_conv.weight',
  'logvar_fourier.frequencies': 'logvar_fourier.freqs',
  'logvar_fourier.phases': 'logvar_fourier.phases',
  'logvar.kernel': 'logvar_linear.weight',
}
POINTWISE = ('skip', 'attention.qkv', 'attention.out')
"""Layers that are convolutions of 1 x 1 in theirs."""


def make_rules(shapes: Shapes, side: int) -> list[Rule]:
  """The rules of a network.

  Args:
    shapes: path in our network -> shape.
    side: of the images, in pixels, which is part of their names.

  Raises:
    ValueError: if no EDM2 has such a path.
  """
  paths = [path for path in shapes if not ONLY_OURS.match(path)]
  rules = [_rule(path, len(shapes[path]), side) for path in paths]
  check_once([rule.theirs for rule in rules])
  return rules


def _rule(path: str, size: int, side: int) -> Rule:
  """The rule of one array with `size` axes."""
  axes = {0: (), 1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[size]
  if path == 'first.kernel':
    return Rule(path, f'unet.enc.{side}x{side}_conv.weight', axes)
  if path in OUTSIDE:
    fixed = 'fourier.' in path
    return Rule(path, OUTSIDE[path], axes, learnt=not fixed)
  match = BLOCK.fullmatch(path)
  if not match or match[4] not in INSIDE:
    raise ValueError(f'{path} is no array of an EDM2')
  way, level, what, inside = match.groups()
  here = side >> int(level)
  ones = 2 if inside.removesuffix('.kernel') in POINTWISE else 0
  name = f'unet.{way}.{here}x{here}_{what}.{INSIDE[inside]}'
  return Rule(path, name, axes, ones)
