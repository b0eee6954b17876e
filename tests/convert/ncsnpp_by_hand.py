"""A second NCSN++: NumPy in float64, from PyTorch's names, as the papers say.

It shares no code with the network. Layers are taken one after the other in the
order of their numbers, so that a wrong number cannot go unseen.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def velocity(weights, x, tau, of):
  """v at images [b, h, w, c] and τ [b]; `of` has the network's options."""
  rest = iter(layers(weights))
  take = rest.__next__
  e = embedding(take, tau, of)

  def block(h, resize=None):
    return residual_block(take(), h, e, of, resize)

  def attend(h):
    return attention(take(), h, of) if len(h[0]) in of['attention'] else h

  def resample(layer, h, up):
    return resampled(layer, h, up, of['fir'])

  def change(h, up):
    if of['resblock_type'] == 'biggan':
      return block(h, double if up else halve)
    return resample(take(), h, up)

  image, skips = x, [convolve(x, take())]
  for level in range(len(of['ch_mult'])):
    h = skips[-1]
    for _ in range(of['res_blocks']):
      skips.append(h := attend(block(h)))
    if level == len(of['ch_mult']) - 1:
      break
    h = change(h, up=False)
    if of['progressive_input'] == 'input_skip':
      image = halve(image, of['fir'])
      h = h + convolve(image, part(take(), 'Conv_0'))
    elif of['progressive_input'] == 'residual':
      image = h = add(resample(take(), image, False), h, of)
    skips.append(h)
  h = block(h)
  h = block(attention(take(), h, of))
  answer = None
  for level in reversed(range(len(of['ch_mult']))):
    for _ in range(of['res_blocks'] + 1):
      h = block(np.concatenate([h, skips.pop()], -1))
    h = attend(h)
    if of['progressive'] == 'output_skip':
      new = convolve(silu(normalise(h, take())), take())
      answer = new if answer is None else double(answer, of['fir']) + new
    elif of['progressive'] == 'residual' and answer is None:
      answer = convolve(silu(normalise(h, take())), take())
    elif of['progressive'] == 'residual':
      answer = h = add(resample(take(), answer, True), h, of)
    h = change(h, up=True) if level else h
  if of['progressive'] != 'output_skip':
    answer = convolve(silu(normalise(h, take())), take())
  assert not [*rest, *skips]
  return answer


def layers(weights):
  """The arrays of each layer by the names in it, in the order of numbers."""
  found = {}
  for name, array in weights.items():
    number, _, rest = name.removeprefix('all_modules.').partition('.')
    found.setdefault(int(number), {})[rest] = array.astype(np.float64)
  return [found[n] for n in range(len(found))]


def part(layer, name):
  return {
    rest.removeprefix(f'{name}.'): array
    for rest, array in layer.items()
    if rest.startswith(f'{name}.')
  }


def embedding(take, tau, of):
  if of['embedding_type'] == 'fourier':
    angles = 2 * np.pi * np.log(tau)[:, None] * take()['W']
  else:
    half = of['nf'] // 2
    angles = tau[:, None] * 10_000 ** (-np.arange(half) / (half - 1))
  features = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  return silu(dense(silu(dense(features, take())), take()))


def residual_block(layer, h, e, of, resize):
  new = silu(normalise(h, part(layer, 'GroupNorm_0')))
  if resize is not None:
    new, h = resize(new, of['fir']), resize(h, of['fir'])
  new = convolve(new, part(layer, 'Conv_0'))
  new = new + dense(e, part(layer, 'Dense_0'))[:, None, None]
  new = silu(normalise(new, part(layer, 'GroupNorm_1')))
  if part(layer, 'Conv_2'):
    h = convolve(h, part(layer, 'Conv_2'))
  if part(layer, 'NIN_0'):
    h = nin(h, part(layer, 'NIN_0'))
  return add(h, convolve(new, part(layer, 'Conv_1')), of)


def attention(layer, h, of):
  b, rows, columns, c = h.shape
  places = normalise(h, part(layer, 'GroupNorm_0')).reshape(b, -1, c)
  q, k, v = (nin(places, part(layer, f'NIN_{i}')) for i in range(3))
  weights = np.exp(np.einsum('bic,bjc->bij', q, k) / c**0.5)
  weights = weights / weights.sum(-1, keepdims=True)
  new = nin(np.einsum('bij,bjc->bic', weights, v), part(layer, 'NIN_3'))
  return add(h, new.reshape(b, rows, columns, c), of)


def resampled(layer, h, up, fir):
  """Convolved as well: before it grows, or after it has been filtered."""
  if not fir:
    layer = part(layer, 'Conv_0')
    if up:
      return convolve(double(h, False), layer)
    h = correlate(zeros(h, 0, 1), layer['weight'])
    return h[:, ::2, ::2] + layer['bias']
  layer = part(layer, 'Conv2d_0')
  if up:
    h = correlate(zeros(apart(h), 2, 2), layer['weight'])
    return 4 * filtered(zeros(h, 1, 1)) + layer['bias']
  h = correlate(filtered(zeros(h, 2, 2)), layer['weight'])
  return h[:, ::2, ::2] + layer['bias']


def double(h, fir):
  if fir:
    return 4 * filtered(zeros(apart(h), 2, 2))
  return np.kron(h, np.ones((1, 2, 2, 1)))


def halve(h, fir):
  if fir:
    return filtered(zeros(h, 1, 1))[:, ::2, ::2]
  return sum(h[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def apart(h):
  """With a zero between two neighbours."""
  b, rows, columns, c = h.shape
  out = np.zeros((b, 2 * rows - 1, 2 * columns - 1, c))
  out[:, ::2, ::2] = h
  return out


def zeros(h, before, after):
  return np.pad(h, ((0, 0), (before, after), (before, after), (0, 0)))


def filtered(h):
  windows = sliding_window_view(h, (4, 4), (1, 2))
  return np.einsum('bhwcij,ij->bhwc', windows, TAPS)


def correlate(h, weight):
  windows = sliding_window_view(h, weight.shape[2:], (1, 2))
  return np.einsum('bhwcij,ocij->bhwo', windows, weight)


def convolve(h, layer):
  side = layer['weight'].shape[-1] // 2
  return correlate(zeros(h, side, side), layer['weight']) + layer['bias']


def dense(h, layer):
  return h @ layer['weight'].T + layer['bias']


def nin(h, layer):
  return h @ layer['W'] + layer['b']


def normalise(h, layer):
  b, c = h.shape[0], h.shape[-1]
  groups = h.reshape(b, -1, min(c // 4, 32), c // min(c // 4, 32))
  mean, var = (f(groups, (1, 3), keepdims=True) for f in (np.mean, np.var))
  groups = (groups - mean) / np.sqrt(var + 1e-6)
  return groups.reshape(h.shape) * layer['weight'] + layer['bias']


def silu(h):
  return h / (1 + np.exp(-h))


def add(h, new, of):
  return (h + new) / (2**0.5 if of['skip_rescale'] else 1)
