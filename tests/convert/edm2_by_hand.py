"""A second EDM2: NumPy in float64, from PyTorch's names, as the papers say.

It shares no code with the network. What there is follows from the names alone:
a block has attention if it has its arrays, and a side is that of its name.
Numbers of equations are those of arXiv 2312.02696.
"""

import re

import numpy as np
from convert.adm_by_hand import names
from convert.ncsnpp_by_hand import correlate, double, halve, part, zeros

LARGEST = 256  # activation


def velocity(weights, x_t, t, one_hot, *, head, fir=False, std=0.5):
  """v at x_t [b, h, w, c], t [b] in (0, 1), by EDM's denoiser.

  Args:
    weights: by PyTorch's names.
    x_t: points of the linear path.
    t: their times.
    one_hot: their labels [b, classes], or None.
    head: channels of an attention head.
    fir: whether resampling filters.
    std: standard deviation of the data.
  """
  weights = {n: a.astype(np.float64) for n, a in weights.items()}
  x, sigma = x_t / wide(1 - t), t / (1 - t)
  denoised = denoise(weights, x, sigma, one_hot, head, fir, std)
  return (x_t - denoised) / wide(t)


def denoise(weights, x, sigma, one_hot, head, fir, std):
  """D(x; σ) of table 1 of EDM."""
  total = np.sqrt(sigma**2 + std**2)
  noise = np.log(sigma) / 4
  output = unet(weights, x / wide(total), noise, one_hot, head, fir)
  return wide((std / total) ** 2) * x + wide(sigma * std / total) * output


def log_variance(weights, sigma):
  """Of equation 21, [b]."""
  weights = {n: a.astype(np.float64) for n, a in weights.items()}
  features = fourier(part(weights, 'logvar_fourier'), np.log(sigma) / 4)
  return linear(features, weights['logvar_linear.weight'])[:, 0]


def unet(weights, x, noise, one_hot, head, fir):
  """The network inside of the preconditioning, at noise levels [b]."""
  weights = part(weights, 'unet')
  e = embedding(weights, noise, one_hot)
  sides = {int(n) for n in re.findall(r'enc\.(\d+)x', ' '.join(weights))}

  def run(name, h, resize=None):
    h = h if resize is None else resize(h, fir)
    return block(part(weights, name), h, e, head, name.startswith('enc'))

  h, skips = np.concatenate([x, np.ones_like(x[..., :1])], -1), []
  for side in sorted(sides, reverse=True):
    if side == max(sides):
      h = convolve(h, weights[f'enc.{side}x{side}_conv.weight'])
    else:
      h = run(f'enc.{side}x{side}_down', h, halve)
    skips.append(h)
    for name in names(weights, 'enc', side):
      skips.append(h := run(name, h))
  for side in sorted(sides):
    if side == min(sides):
      h = run(f'dec.{side}x{side}_in1', run(f'dec.{side}x{side}_in0', h))
    else:
      h = run(f'dec.{side}x{side}_up', h, double)
    for name in names(weights, 'dec', side):
      h = run(name, joined(h, skips.pop()))
  assert not skips
  return weights['out_gain'] * convolve(h, weights['out_conv.weight'])


def embedding(weights, noise, one_hot):
  e = linear(
    fourier(part(weights, 'emb_fourier'), noise), weights['emb_noise.weight']
  )
  if one_hot is not None:
    label = np.sqrt(one_hot.shape[1]) * one_hot
    e = (e + linear(label, weights['emb_label.weight'])) / np.sqrt(2)
  return active(e)


def block(layer, h, e, head, encodes):
  """Figure 21."""
  if encodes:
    h = unit(skipped(layer, h), -1)
  scale = 1 + layer['emb_gain'] * linear(e, layer['emb_linear.weight'])
  new = convolve(active(h), layer['conv_res0.weight'])
  new = convolve(active(new * wide(scale)), layer['conv_res1.weight'])
  h = added(h if encodes else skipped(layer, h), new)
  if part(layer, 'attn_qkv'):
    h = added(h, attention(layer, h, head))
  return h.clip(-LARGEST, LARGEST)


def skipped(layer, h):
  name = 'conv_skip.weight'
  return convolve(h, layer[name]) if name in layer else h


def attention(layer, h, head):
  """Each head by itself; of its channel i, q, k and v are rows 3 i, ..."""
  b, *_, c = h.shape
  qkv = convolve(h, layer['attn_qkv.weight']).reshape(b, -1, 3 * c)
  new = []
  for one in np.split(qkv, max(1, c // head), -1):
    q, k, v = (unit(one[..., i::3], -1) for i in range(3))
    weights = np.exp(np.einsum('bic,bjc->bij', q, k) / q.shape[-1] ** 0.5)
    weights = weights / weights.sum(-1, keepdims=True)
    new.append(np.einsum('bij,bjc->bic', weights, v))
  new = np.concatenate(new, -1).reshape(h.shape)
  return convolve(new, layer['attn_proj.weight'])


def fourier(layer, noise):
  """Equation 75."""
  angles = noise[:, None] * layer['freqs'] + layer['phases']
  return np.sqrt(2) * np.cos(angles)


def unit(x, axis):
  """Equation 29."""
  size = np.sqrt(np.mean(x**2, axis, keepdims=True))
  return x / (1e-4 + size)


def normal(weight):
  """A weight [out, in, ...] of equation 47."""
  rows = weight.reshape(len(weight), -1)
  return (unit(rows, 1) / np.sqrt(rows.shape[1])).reshape(weight.shape)


def linear(h, weight):
  return h @ normal(weight).T


def convolve(h, weight):
  """By kernels of 1 x 1 or 3 x 3."""
  pad = weight.shape[-1] // 2
  return correlate(zeros(h, pad, pad), normal(weight))


def active(h):
  """Equation 81."""
  return h * (1 + np.tanh(h / 2)) / 2 / 0.596  # no overflow


def added(a, b, share=0.3):
  """Equation 88."""
  return ((1 - share) * a + share * b) / np.hypot(1 - share, share)


def joined(a, b):
  """Equation 103, with equal shares."""
  n, m = a.shape[-1], b.shape[-1]
  return np.concatenate([a / np.sqrt(n), b / np.sqrt(m)], -1) * np.sqrt(
    (n + m) / 2
  )


def wide(x):
  """[b, ...] with axes of an image before the last."""
  return x[:, None, None] if x.ndim > 1 else x[:, None, None, None]
