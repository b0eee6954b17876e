"""Weights of EDM's networks under PyTorch's names, both ways.

Their names contain the resolution at which a block works; those of blocks are
the names of ADM (see `adm.py`). In an NCSN++ for images of 64 x 64 there are
also

  enc.32x32_aux_residual.weight    our down.0.pyramid.resample.fir_conv.kernel
  dec.64x64_aux_conv.weight        our last.layers.2.kernel

They stand below `model.` in a preconditioning, whose velocity is part of our
network: no sign changes. Only ours has embeddings of s and scalars; only theirs
has the filters of layers that down- or upsample.

Source of the names: https://github.com/NVlabs/edm.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowdistill.convert.adm import (
  AXES,
  ONLY_OURS,
  inside,
  ones,
  position,
  resample_filter,
  resample_filters,
)
from flowdistill.convert.names import check_once
from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Arrays, Rule, Shapes

NAMING = Naming('EDM', r'(?:map_|enc\.|dec\.|out_)', r'\.resample_filter$')
MAPPING = {
  'times': 'map_noise',
  'times.first': 'map_layer0',
  'times.second': 'map_layer1',
  'label': 'map_label',
  'label.linear': 'map_label',
  'augment': 'map_augment',
}
"""The layers of the embedding, of which `times` has the frequencies."""
ADM_LAST = {'last.layers.0': 'out_norm', 'last.layers.2': 'out_conv'}
BRANCH = re.compile(r'(down|up)\.(\d+)\.pyramid\.(.+)')
BRANCHES = {
  'conv': 'aux_skip',
  'resample.conv': 'aux_residual',
  'resample.fir_conv': 'aux_residual',
  'head.layers.0': 'aux_norm',
  'head.layers.2': 'aux_conv',
}
"""The layers beside the blocks."""
FILTERED = re.compile(r'(enc\.\d+x\d+)_aux_(residual|skip)\.weight$')
SUMMED = re.compile(r'dec\.(\d+)x\d+_aux_conv\.weight$')
TAPS = {False: (1, 1), True: (1, 3, 3, 1)}


INNER = ('steps', 'block', 'attention', 'shrink', 'pyramid', 'grow')
LEAVES = ('resample', 'head', 'layers', 'conv', 'fir_conv', 'linear')
TRUNK = ('first', 'second', 'down', 'middle', 'up', 'last', *INNER, *LEAVES)
ADM_ORDER = ('augment', 'times', 'label', *TRUNK)
NCSNPP_ORDER = ('label', 'augment', 'times', *TRUNK)
"""The order of the children of one parent; equal names go by number."""


def adm_rules(shapes: Shapes, side: int) -> list[Rule]:
  """The rules of an ADM for images of this side, in pixels.

  Raises:
    ValueError: if no ADM has one of the paths.
  """
  rules = _make_rules(shapes, side, lambda layer: ADM_LAST.get(layer, ''))
  return sorted(rules, key=lambda r: position(r, ADM_ORDER, NAMING))


def ncsnpp_rules(shapes: Shapes, side: int) -> list[Rule]:
  """The rules of a DDPM++ or NCSN++ for images of this side, in pixels.

  Raises:
    ValueError: if none has one of the paths.
  """
  end = _levels(shapes) - 1

  def beside(layer: str) -> str:
    if layer.startswith('last.'):
      layer = layer.replace('last.', f'up.{end}.pyramid.head.')
    match = BRANCH.fullmatch(layer)
    if not match or match[3] not in BRANCHES:
      return ''
    way, number = match[1], int(match[2])
    here = side >> (number + 1 if way == 'down' else end - number)
    which = 'enc' if way == 'down' else 'dec'
    return f'{which}.{here}x{here}_{BRANCHES[match[3]]}'

  rules = _make_rules(shapes, side, beside)
  return sorted(rules, key=lambda r: position(r, NCSNPP_ORDER, NAMING))


def _make_rules(
  shapes: Shapes, side: int, beside: Callable[[str], str]
) -> list[Rule]:
  """The rules of a network, of which `beside` names what is in no block."""
  levels, rules = _levels(shapes), []
  for path, shape in shapes.items():
    layer, _, leaf = path.rpartition('.')
    if ONLY_OURS.match(path):
      continue
    name = MAPPING.get(layer) or beside(layer)
    name = name or inside(layer, side, levels, NAMING)
    theirs = {'bias': 'bias', 'frequencies': 'freqs'}.get(leaf, 'weight')
    rules.append(
      Rule(
        path,
        f'{name}.{theirs}',
        AXES[len(shape)],
        ones(path),
        learnt=leaf != 'frequencies',
      )
    )
  check_once([rule.theirs for rule in rules])
  return rules


def _levels(shapes: Shapes) -> int:
  return len({p.split('.')[1] for p in shapes if p.startswith('down.')})


def filters(names: Iterable[str], network: Mapping[str, Any]) -> Arrays:
  """The filters that only theirs has, of the names and options of a network."""
  names, taps = list(names), TAPS[bool(network.get('fir', False))]
  layers = [
    f'{match[1]}_aux_{"residual" if match[2] == "residual" else "down"}'
    for name in names
    if (match := FILTERED.match(name))
  ]
  sides = [int(match[1]) for name in names if (match := SUMMED.match(name))]
  if network.get('progressive') == 'output_skip':
    layers += [f'dec.{s}x{s}_aux_up' for s in sides if s != min(sides)]
  beside = {f'{n}.resample_filter': resample_filter(taps) for n in layers}
  return resample_filters(names, taps) | beside
