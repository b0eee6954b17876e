"""A second ADM: NumPy in float64, from PyTorch's names, as the paper says.

It shares no code with the network. What there is follows from the names alone:
a block has attention if it has its arrays, and a side is that of its name.
"""

import itertools
import re

import numpy as np
from convert.ncsnpp_by_hand import (
  convolve,
  dense,
  double,
  halve,
  part,
  silu,
)


def velocity(weights, x, tau, one_hot, head):
  """v at images [b, h, w, c], τ [b] and labels [b, classes] or None.

  Args:
    weights: by PyTorch's names.
    x: the images.
    tau: their times.
    one_hot: their labels.
    head: channels of a head.
  """
  weights = {n: a.astype(np.float64) for n, a in weights.items()}
  e = embedding(weights, tau, one_hot)
  sides = {int(n) for n in re.findall(r'enc\.(\d+)x', ' '.join(weights))}

  def block(name, h, resize=None):
    return residual_block(part(weights, name), h, e, head, resize)

  h, skips = x, []
  for side in sorted(sides, reverse=True):
    if side == max(sides):
      h = convolve(x, part(weights, f'enc.{side}x{side}_conv'))
    else:
      h = block(f'enc.{side}x{side}_down', h, halve)
    skips.append(h)
    for name in names(weights, 'enc', side):
      skips.append(h := block(name, h))
  for side in sorted(sides):
    if side == min(sides):
      h = block(f'dec.{side}x{side}_in0', h)
      h = block(f'dec.{side}x{side}_in1', h)
    else:
      h = block(f'dec.{side}x{side}_up', h, double)
    for name in names(weights, 'dec', side):
      h = block(name, np.concatenate([h, skips.pop()], -1))
  assert not skips
  h = silu(normalise(h, part(weights, 'out_norm')))
  return convolve(h, part(weights, 'out_conv'))


def names(weights, way, side):
  """Of the blocks at one side, in their order."""
  every = (f'{way}.{side}x{side}_block{i}' for i in itertools.count())
  return itertools.takewhile(lambda name: part(weights, name), every)


def embedding(weights, tau, one_hot):
  first = part(weights, 'map_layer0')
  half = first['weight'].shape[1] // 2
  angles = tau[:, None] / 10_000 ** (np.arange(half) / half)
  features = np.concatenate([np.cos(angles), np.sin(angles)], -1)
  e = dense(silu(dense(features, first)), part(weights, 'map_layer1'))
  if one_hot is not None:
    e = e + one_hot @ weights['map_label.weight'].T
  return silu(e)


def residual_block(layer, h, e, head, resize):
  new = silu(normalise(h, part(layer, 'norm0')))
  if resize is not None:
    new, h = resize(new, False), resize(h, False)
  new = convolve(new, part(layer, 'conv0'))
  scale, shift = np.split(dense(e, part(layer, 'affine')), 2, -1)
  new = normalise(new, part(layer, 'norm1'))
  new = silu(new * (1 + scale[:, None, None]) + shift[:, None, None])
  if part(layer, 'skip'):
    h = convolve(h, part(layer, 'skip'))
  h = h + convolve(new, part(layer, 'conv1'))
  return attention(layer, h, head) if part(layer, 'norm2') else h


def attention(layer, h, head):
  """Each head by itself; of its channel i, q, k and v are rows 3 i, ..."""
  b, *_, c = h.shape
  qkv = convolve(normalise(h, part(layer, 'norm2')), part(layer, 'qkv'))
  new = []
  for one in np.split(qkv.reshape(b, -1, 3 * c), max(1, c // head), -1):
    q, k, v = one[..., 0::3], one[..., 1::3], one[..., 2::3]
    weights = np.exp(np.einsum('bic,bjc->bij', q, k) / q.shape[-1] ** 0.5)
    weights = weights / weights.sum(-1, keepdims=True)
    new.append(np.einsum('bij,bjc->bic', weights, v))
  new = np.concatenate(new, -1).reshape(h.shape)
  return h + convolve(new, part(layer, 'proj'))


def normalise(h, layer):
  b, c = h.shape[0], h.shape[-1]
  groups = h.reshape(b, -1, min(c // 4, 32), c // min(c // 4, 32))
  mean, var = (f(groups, (1, 3), keepdims=True) for f in (np.mean, np.var))
  groups = (groups - mean) / np.sqrt(var + 1e-5)
  return groups.reshape(h.shape) * layer['weight'] + layer['bias']
