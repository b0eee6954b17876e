"""A second SiT: NumPy in float64, from PyTorch's names, as the papers say.

It shares no code with the network. A file with `h_embedder` is MeanFlow's.
"""

import numpy as np


def velocity(weights, x_t, t, s, label, *, heads, mirrored):
  """u at x_t [b, h, w, c] from t to s, [b]; SiT's ignores s.

  Args:
    weights: by PyTorch's names.
    x_t: points of the linear path.
    t: their times, 0 at data.
    s: ends of the jumps.
    label: classes [b], or their number for none.
    heads: of the attention.
    mirrored: whether the network's time is 1 at data.
  """
  weights = {n: a.astype(np.float64) for n, a in weights.items()}
  c = sinusoidal(weights, 't_embedder', 1 - t if mirrored else t)
  if 'h_embedder.mlp.0.weight' in weights:
    c += sinusoidal(weights, 'h_embedder', t - s)
  c += weights['y_embedder.embedding_table.weight'][label]
  tokens, patch = embedded(weights, x_t)
  depth = 1 + max(int(n.split('.')[1]) for n in weights if n[:7] == 'blocks.')
  for i in range(depth):
    tokens = block(weights, f'blocks.{i}.', tokens, c, heads)
  output = drawn(weights, tokens, c, patch, x_t.shape)
  return -output if mirrored else output


def linear(weights, name, x):
  return x @ weights[f'{name}.weight'].T + weights[f'{name}.bias']


def silu(x):
  return x / (1 + np.exp(-x))


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def sinusoidal(weights, name, time):
  """256 features of a time, and two layers."""
  angles = np.outer(time, 1e4 ** (-np.arange(128) / 128))
  x = np.concatenate([np.cos(angles), np.sin(angles)], -1)
  return linear(
    weights, f'{name}.mlp.2', silu(linear(weights, f'{name}.mlp.0', x))
  )


def embedded(weights, x):
  """Tokens with positions, patch by patch, and the side of a patch."""
  kernel = weights['x_embedder.proj.weight']
  side = kernel.shape[2]
  b, rows, columns = x.shape[0], x.shape[1] // side, x.shape[2] // side
  tokens = np.zeros((b, rows * columns, len(kernel)))
  for i in range(rows):
    for j in range(columns):
      part = x[:, i * side : (i + 1) * side, j * side : (j + 1) * side]
      tokens[:, i * columns + j] = np.einsum('bhwc,dchw->bd', part, kernel)
  return tokens + weights['x_embedder.proj.bias'] + weights['pos_embed'], side


def modulated(x, shift, scale):
  """Layer normalisation, scaled and shifted by [b, width]."""
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  return x * (1 + scale[:, None]) + shift[:, None]


def block(weights, name, x, c, heads):
  parts = np.split(linear(weights, f'{name}adaLN_modulation.1', silu(c)), 6, -1)
  h = modulated(x, parts[0], parts[1])
  x = x + parts[2][:, None] * attention(weights, name, h, heads)
  h = gelu(linear(weights, f'{name}mlp.fc1', modulated(x, parts[3], parts[4])))
  return x + parts[5][:, None] * linear(weights, f'{name}mlp.fc2', h)


def attention(weights, name, x, heads):
  q, k, v = np.split(linear(weights, f'{name}attn.qkv', x), 3, -1)
  size, outputs = q.shape[-1] // heads, []
  for head in range(heads):
    one = slice(head * size, (head + 1) * size)
    logits = np.einsum('bqc,bkc->bqk', q[..., one], k[..., one]) / size**0.5
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    outputs.append(np.einsum('bqk,bkc->bqc', share, v[..., one]))
  return linear(weights, f'{name}attn.proj', np.concatenate(outputs, -1))


def drawn(weights, x, c, side, shape):
  """The image of tokens, [b, h, w, c], without outputs for a variance."""
  last = 'final_layer.'
  parts = np.split(linear(weights, f'{last}adaLN_modulation.1', silu(c)), 2, -1)
  patches = linear(weights, f'{last}linear', modulated(x, *parts))
  image, columns = np.zeros(shape), shape[2] // side
  for token in range(patches.shape[1]):
    i, j = divmod(token, columns)
    part = patches[:, token].reshape(shape[0], side, side, -1)
    image[:, i * side : (i + 1) * side, j * side : (j + 1) * side] = part[
      ..., : shape[3]
    ]
  return image
