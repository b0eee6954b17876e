"""With the weights of diffusers our FLUX is FluxTransformer2DModel.

On random configurations: odd grids, several heads, a guidance scale or none,
blocks that are unrolled and that are scanned, and more inputs than outputs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.tiny import size

from flowdistill.convert import CONVERTERS
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.flux import Flux
from flowdistill.networks.flux_blocks import DoubleBlock, SingleBlock
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.stack import unstacked
from flowdistill.training.named_arrays import by_name

torch = pytest.importorskip('torch')
diffusers = pytest.importorskip('diffusers')
pytestmark = pytest.mark.slow


B, TEXT, WORDS, POOLED = 2, 10, 5, 6
CONFIGS = {
  'dev': {
    'num_layers': 2,
    'num_single_layers': 5,  # scanned
    'attention_head_dim': 12,
    'num_attention_heads': 3,
    'axes_dims_rope': (2, 4, 6),
    'guidance_embeds': True,
  },
  'schnell': {
    'num_layers': 5,
    'num_single_layers': 1,
    'attention_head_dim': 8,
    'num_attention_heads': 2,
    'axes_dims_rope': (4, 2, 2),
  },
  'fill': {
    'num_layers': 1,
    'num_single_layers': 2,
    'attention_head_dim': 16,
    'num_attention_heads': 1,
    'axes_dims_rope': (4, 4, 8),
    'guidance_embeds': True,
    'in_channels': 20,
    'out_channels': 12,
  },
}
IMAGES = {'dev': (6, 10), 'schnell': (2, 14), 'fill': (10, 6)}
CHANNELS = 3
EVERY = pytest.mark.parametrize('name', CONFIGS)


@functools.cache
def theirs(name):
  """FluxTransformer2DModel in float32, with no parameter at zero."""
  fields = {'in_channels': 4 * CHANNELS, **CONFIGS[name]}
  torch.manual_seed(0)
  net = diffusers.FluxTransformer2DModel(
    **fields, joint_attention_dim=TEXT, pooled_projection_dim=POOLED
  )
  for path, weight in net.named_parameters():
    # Norms' scales stay near 1; all other vectors are biases.
    mean = 1.0 if weight.ndim == 1 and path.endswith('weight') else 0.0
    std = 0.3 if weight.ndim == 1 else weight.shape[1] ** -0.5
    torch.nn.init.normal_(weight.data, mean, std)
  return net


@functools.cache
def ours(name, dtype='float32'):
  """(graph, params) of the same network."""
  height, width = IMAGES[name]
  extra = CONFIGS[name].get('in_channels', 4 * CHANNELS) // 4 - CHANNELS
  cond = {'text': Condition((WORDS, TEXT)), 'pooled': Condition((POOLED,))}
  if extra:
    cond['control'] = Condition((height, width, extra))
  spec = DataSpec((height, width, CHANNELS), cond)
  graph, params = nnx.split(
    nnx.eval_shape(
      lambda: Flux(
        spec,
        **CONFIGS[name],
        options=NetworkOptions(dtype=dtype),
        rngs=nnx.Rngs(0),
      )
    )
  )
  shapes = {path: x.shape for path, x in by_name(params).items()}
  found = CONVERTERS['flux'].from_torch(arrays_of(theirs(name)), shapes)
  assert found.keys() == shapes.keys()
  leaves = [jnp.asarray(found[path]) for path in shapes]
  return graph, jax.tree.unflatten(jax.tree.structure(params), leaves)


def arrays_of(net):
  return {n: x.detach().float().numpy() for n, x in net.state_dict().items()}


def inputs(name):
  """x, t and cond for ours, as numpy arrays."""
  rng, (height, width) = np.random.default_rng(1), IMAGES[name]

  def draw(*shape):
    return rng.normal(size=(B, *shape)).astype(np.float32)

  cond = {'text': draw(WORDS, TEXT), 'pooled': draw(POOLED)}
  if 'in_channels' in CONFIGS[name]:
    extra = CONFIGS[name]['in_channels'] // 4 - CHANNELS
    cond['control'] = draw(height, width, extra)
  if 'guidance_embeds' in CONFIGS[name]:
    cond['distilled_guidance'] = np.array([3.5, 1.7], np.float32)
  t = np.array([0.9137, 0.2718], np.float32)
  return draw(height, width, CHANNELS), t, cond


def packed(x):
  """Latents [b, h, w, c] as the pipeline packs them."""
  b, h, w, c = x.shape
  x = torch.as_tensor(x).permute(0, 3, 1, 2)
  return diffusers.FluxPipeline._pack_latents(x, b, c, h, w)


def called(name, net, x, t, cond, dtype=torch.float32):
  """The velocity of diffusers, [b, h, w, c]."""
  _, h, w, _ = x.shape
  known = {n: torch.as_tensor(a).to(dtype) for n, a in cond.items()}
  tokens = packed(x)
  if 'control' in known:
    tokens = torch.cat([tokens, packed(known['control'])], dim=-1)
  ids = diffusers.FluxPipeline._prepare_latent_image_ids(
    B, h // 2, w // 2, 'cpu', dtype
  )
  out = net(
    hidden_states=tokens.to(dtype),
    encoder_hidden_states=known['text'],
    pooled_projections=known['pooled'],
    timestep=torch.as_tensor(t).to(dtype),
    guidance=known.get('distilled_guidance'),
    img_ids=ids,
    txt_ids=torch.zeros(WORDS, 3, dtype=dtype),
    return_dict=False,
  )[0]
  out = diffusers.FluxPipeline._unpack_latents(out, 8 * h, 8 * w, 8)
  return out.permute(0, 2, 3, 1)


@functools.partial(jax.jit, static_argnums=0)
def run(graph, params, x, t, cond):
  return nnx.merge(graph, params)(x, t, t, cond)


def close(found, wanted, within=1e-4):
  """To a part of the largest number."""
  wanted = np.asarray(wanted)
  assert np.abs(wanted).max() > 1e-3
  assert found.shape == wanted.shape
  assert size(found - wanted) < within * max(np.abs(wanted).max(), 1.0)


@EVERY
def test_it_answers_as_diffusers_after_each_block(name):
  x, t, cond = inputs(name)
  net, seen = theirs(name), []
  blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
  hooks = [
    block.register_forward_hook(
      lambda _, __, out: seen.append(torch.cat(out, dim=1).numpy())
    )
    for block in blocks
  ]
  with torch.no_grad():
    seen.append(called(name, net, x, t, cond).numpy())
  for hook in hooks:
    hook.remove()
  assert np.abs(seen[-1]).max() > 0.5
  for found, wanted in zip(states(name, x, t, cond), seen, strict=True):
    close(found, wanted)


def states(name, x, t, cond):
  """The tokens after each of our blocks, and the answer."""
  graph, params = ours(name)

  @jax.jit
  def call(params):
    net, kept = unstacked(nnx.merge(graph, params)), []
    with pytest.MonkeyPatch.context() as patch:
      for kind in (DoubleBlock, SingleBlock):
        patch.setattr(kind, '__call__', keeping(kept, kind.__call__))
      u = net(x, t, t, cond)
    return [*kept, u]

  return call(params)


def keeping(kept, original):
  """A block's call that also keeps what it returns."""

  def call(self, *args, **kwargs):
    kept.append(original(self, *args, **kwargs))
    return kept[-1]

  return call


@pytest.mark.parametrize('name', ['dev', 'fill'])
def test_gradients_are_those_of_torch(name):
  x, t, cond = inputs(name)
  net = theirs(name)
  net.zero_grad()
  called(name, net, x, t, cond).sin().sum().backward()
  slopes = {n: p.grad.numpy() for n, p in net.named_parameters()}
  graph, params = ours(name)
  shapes = {path: w.shape for path, w in by_name(params).items()}
  wanted = CONVERTERS['flux'].from_torch(slopes, shapes)
  grads = jax.jit(jax.grad(lambda p: jnp.sin(run(graph, p, x, t, cond)).sum()))(
    params
  )
  for path, found in by_name(grads).items():
    largest = np.abs(wanted[path]).max()
    assert largest > 1e-5, path
    assert size(found - wanted[path]) < 1e-4 * max(largest, 1.0), path


@pytest.mark.parametrize('name', ['dev', 'schnell'])
def test_the_jvp_is_that_of_torch(name):
  """Along x and along t, whose embedding turns fast; also of scanned blocks."""
  x, t, cond = inputs(name)
  dx = np.cos(7 * x)
  for direction in ((dx, 0 * t), (0 * x, 1 + 0 * t)):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
      value, wanted = torch.func.jvp(
        lambda x, t: called(name, theirs(name), x, t, cond),
        (torch.as_tensor(x), torch.as_tensor(t)),
        tuple(map(torch.as_tensor, direction)),
      )
    u, found = jax.jvp(
      lambda x, t: run(*ours(name), x, t, cond), (x, t), direction
    )
    close(u, value.detach().numpy())
    close(found, wanted.detach().numpy())


@pytest.mark.parametrize('name', ['dev'])
def test_in_bfloat16_it_is_nearer_than_diffusers(name):
  x, t, cond = inputs(name)
  with torch.no_grad():
    exact = called(name, theirs(name), x, t, cond).numpy()
    rounded = clone(name).to(torch.bfloat16)
    other = called(name, rounded, x, t, cond, torch.bfloat16).float().numpy()
  found = run(*ours(name, 'bfloat16'), x, t, cond)
  assert found.dtype == jnp.float32
  off, limit = (np.linalg.norm(v - exact) for v in (found, other))
  assert 1e-4 * np.linalg.norm(exact) < off < limit


def clone(name):
  net = diffusers.FluxTransformer2DModel.from_config(theirs(name).config)
  net.load_state_dict(theirs(name).state_dict())
  return net
