"""Linear layers of tiny networks of diffusers, and updates of them."""

import numpy as np

from flowdistill.convert.lora import Factors

W, DEPTH = 12, 2
HIDDEN = 4 * W


def flux():
  """Of one width alone, so that a single block's parts are 1, 1, 1 and 4."""
  widths = {
    'x_embedder': (W, 8),
    'context_embedder': (W, 6),
    'time_text_embed.timestep_embedder.linear_1': (W, 256),
    'time_text_embed.timestep_embedder.linear_2': (W, W),
    'norm_out.linear': (2 * W, W),
    'proj_out': (8, W),
  }
  for i in range(DEPTH):
    widths |= joint(f'transformer_blocks.{i}.', 6)
    block = f'single_transformer_blocks.{i}.'
    widths |= {f'{block}attn.to_{x}': (W, W) for x in 'qkv'}
    widths |= {
      f'{block}norm.linear': (3 * W, W),
      f'{block}proj_mlp': (HIDDEN, W),
      f'{block}proj_out': (W, W + HIDDEN),
    }
  return widths


def sd3():
  """The first block has dual attention; the last, no text after it."""
  widths = {
    'context_embedder': (W, 6),
    'time_text_embed.timestep_embedder.linear_1': (W, 256),
    'time_text_embed.timestep_embedder.linear_2': (W, W),
    'norm_out.linear': (2 * W, W),
    'proj_out': (16, W),
  }
  for i in range(DEPTH):
    widths |= joint(f'transformer_blocks.{i}.', 6)
  first, last = 'transformer_blocks.0.', f'transformer_blocks.{DEPTH - 1}.'
  widths |= {f'{first}attn2.to_{x}': (W, W) for x in 'qkv'}
  widths |= {f'{first}attn2.to_out.0': (W, W), f'{first}norm1.linear': (108, W)}
  for name in ('attn.to_add_out', 'ff_context.net.0.proj', 'ff_context.net.2'):
    del widths[last + name]
  widths[f'{last}norm1_context.linear'] = (2 * W, W)
  return widths


def joint(block, chunks):
  """The layers of a block of both."""
  widths = {f'{block}attn.to_{x}': (W, W) for x in 'qkv'}
  widths |= {f'{block}attn.add_{x}_proj': (W, W) for x in 'qkv'}
  return widths | {
    f'{block}norm1.linear': (chunks * W, W),
    f'{block}norm1_context.linear': (chunks * W, W),
    f'{block}attn.to_out.0': (W, W),
    f'{block}attn.to_add_out': (W, W),
    f'{block}ff.net.0.proj': (HIDDEN, W),
    f'{block}ff.net.2': (W, HIDDEN),
    f'{block}ff_context.net.0.proj': (HIDDEN, W),
    f'{block}ff_context.net.2': (W, HIDDEN),
  }


NETWORKS = {'flux': flux(), 'sd3': sd3()}


def drawn(widths, rank=2, alpha=3.0, seed=0):
  """An update of every layer, far from zero."""
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  return {
    name: Factors(normal(rank, inside), normal(out, rank), alpha)
    for name, (out, inside) in widths.items()
  }


def assert_alike(found, wanted, rtol=1e-5):
  """Equal updates of equal layers."""
  assert found.keys() == wanted.keys()
  for name, factors in wanted.items():
    np.testing.assert_allclose(
      found[name].delta, factors.delta, rtol=rtol, atol=1e-5, err_msg=name
    )
