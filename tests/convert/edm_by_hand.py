"""Second EDM networks: NumPy in float64, from PyTorch's names, after the paper.

They share no code with the networks. What there is follows from the names: a
block has attention if it has its arrays, and a side is that of its name. ADM
inside of the preconditioning is that of `adm_by_hand.py`.
"""

import re

import numpy as np
from convert import adm_by_hand
from convert.adm_by_hand import names
from convert.ncsnpp_by_hand import (
  convolve,
  correlate,
  dense,
  double,
  filtered,
  halve,
  normalise,
  part,
  silu,
  zeros,
)

ROOT = 2**0.5


def velocity(weights, x_t, t, one_hot, *, unet, precond='edm', std=0.5):
  """v at x_t [b, h, w, c], t [b] in (0, 1), by EDM's denoiser.

  Args:
    weights: by PyTorch's names.
    x_t: points of the linear path.
    t: their times.
    one_hot: their labels [b, classes], or None.
    unet: (weights, images, noise levels, one_hot) -> the network's output.
    precond: one of table 1 of EDM.
    std: standard deviation of the data ('edm').
  """
  weights = {n: a.astype(np.float64) for n, a in weights.items()}
  t = t[:, None, None, None]
  x, sigma = x_t / (1 - t), t / (1 - t)
  skip, out, into, noise = scalings(precond, sigma, std)
  output = unet(weights, into * x, noise.ravel(), one_hot)
  return (x_t - skip * x - out * output[..., : x_t.shape[-1]]) / t


def scalings(precond, sigma, std):
  """c_skip, c_out, c_in and c_noise of table 1."""
  if precond == 'edm':
    total = np.sqrt(sigma**2 + std**2)
    noise = np.log(sigma) / 4
    return (std / total) ** 2, sigma * std / total, 1 / total, noise
  if precond == 've':
    return 1.0, sigma, 1.0, np.log(sigma / 2)
  into = 1 / np.sqrt(sigma**2 + 1)
  if precond == 'vp':
    time = np.sqrt(0.01 + 39.8 * np.log(1 + sigma**2)) - 0.1
    return 1.0, -sigma, into, 999 * time / 19.9
  levels = iddpm_levels()
  nearest = np.abs(sigma.ravel()[:, None] - levels).argmin(1)
  return 1.0, -sigma, into, 999.0 - nearest


def iddpm_levels():
  """u_0, ..., u_999, falling."""
  alpha = np.sin(np.pi / 2 * np.arange(1001) / 1000 / 1.008) ** 2
  levels = np.zeros(1001)
  for j in range(1000, 0, -1):
    ratio = max(alpha[j - 1] / alpha[j], 0.001)
    levels[j - 1] = np.sqrt((levels[j] ** 2 + 1) / ratio - 1)
  return levels[:1000]


def adm(weights, x, noise, one_hot, *, head):
  """The ADM inside."""
  return adm_by_hand.velocity(weights, x, noise, one_hot, head)


def ncsnpp(weights, x, noise, one_hot, *, fir=False):
  """The DDPM++ or NCSN++ inside."""
  e = embedding(weights, noise, one_hot)
  sides = {int(n) for n in re.findall(r'enc\.(\d+)x', ' '.join(weights))}

  def run(name, h, resize=None):
    return block(part(weights, name), h, e, fir, resize)

  h, image, skips = x, x, []
  for side in sorted(sides, reverse=True):
    here = f'enc.{side}x{side}'
    if side == max(sides):
      h = convolve(x, part(weights, f'{here}_conv'))
    else:
      h = run(f'{here}_down', h, halve)
    if part(weights, f'{here}_aux_skip'):
      image = halve(image, fir)
      h = h + convolve(image, part(weights, f'{here}_aux_skip'))
    if residual := part(weights, f'{here}_aux_residual'):
      image = h = (h + shrunk(image, residual, fir)) / ROOT
    skips.append(h)
    for name in names(weights, 'enc', side):
      skips.append(h := run(name, h))
  answer = None
  for side in sorted(sides):
    here = f'dec.{side}x{side}'
    if side == min(sides):
      h = run(f'{here}_in1', run(f'{here}_in0', h))
    else:
      h = run(f'{here}_up', h, double)
    for name in names(weights, 'dec', side):
      h = run(name, np.concatenate([h, skips.pop()], -1))
    if last := part(weights, f'{here}_aux_norm'):
      new = silu(normalise(h, last))
      new = convolve(new, part(weights, f'{here}_aux_conv'))
      answer = new if answer is None else double(answer, fir) + new
  assert not skips
  return answer


def embedding(weights, noise, one_hot):
  first = part(weights, 'map_layer0')
  half = first['weight'].shape[1] // 2
  frequencies = 10_000 ** (-np.arange(half) / (half - 1))
  if 'map_noise.freqs' in weights:
    frequencies = 2 * np.pi * weights['map_noise.freqs']
  angles = noise[:, None] * frequencies
  e = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  if one_hot is not None:
    e = e + dense(one_hot.shape[1] ** 0.5 * one_hot, part(weights, 'map_label'))
  return silu(dense(silu(dense(e, first)), part(weights, 'map_layer1')))


def block(layer, h, e, fir, resize):
  new = silu(normalise(h, part(layer, 'norm0')))
  if resize is not None:
    new, h = resize(new, fir), resize(h, fir)
  new = convolve(new, part(layer, 'conv0'))
  new = new + dense(e, part(layer, 'affine'))[:, None, None]
  new = silu(normalise(new, part(layer, 'norm1')))
  if part(layer, 'skip'):
    h = convolve(h, part(layer, 'skip'))
  h = (h + convolve(new, part(layer, 'conv1'))) / ROOT
  return attention(layer, h) if part(layer, 'norm2') else h


def attention(layer, h):
  """One head; of channel i, q, k and v are rows 3 i, 3 i + 1 and 3 i + 2."""
  b, *_, c = h.shape
  qkv = convolve(normalise(h, part(layer, 'norm2')), part(layer, 'qkv'))
  q, k, v = (qkv.reshape(b, -1, 3 * c)[..., i::3] for i in range(3))
  weights = np.exp(np.einsum('bic,bjc->bij', q, k) / c**0.5)
  weights = weights / weights.sum(-1, keepdims=True)
  new = np.einsum('bij,bjc->bic', weights, v).reshape(h.shape)
  return (h + convolve(new, part(layer, 'proj'))) / ROOT


def shrunk(h, layer, fir):
  """Convolved, then filtered with the stride 2."""
  pad = 2 if fir else 1
  h = correlate(zeros(h, pad, pad), layer['weight'])
  h = filtered(h)[:, ::2, ::2] if fir else halve(h, False)
  return h + layer['bias']
