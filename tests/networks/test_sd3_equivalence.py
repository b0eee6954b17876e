"""SD3 against that of diffusers, on random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import tiny_sd3
from networks.features.loading import filled, of_torch

from flowdistill.convert import CONVERTERS
from flowdistill.networks.sd3_blocks import JointBlock
from flowdistill.training.named_arrays import by_name

torch = pytest.importorskip('torch')
diffusers = pytest.importorskip('diffusers')

pytestmark = pytest.mark.slow
RULES = CONVERTERS['sd3']
TOLERANCE = 1e-4  # of the largest number


def both(branch, **options):
  """Theirs, and ours with the same weights: (module, graph, params)."""
  torch.manual_seed(0)
  config = tiny_sd3.options_of(branch)
  theirs = diffusers.SD3Transformer2DModel(**config).eval()
  arrays = of_torch(theirs)
  graph, params = tiny_sd3.built(config, **options)
  shapes = {path: x.shape for path, x in by_name(params).items()}
  ours = RULES.from_torch(arrays, shapes)
  return theirs, graph, filled(params, ours)


def of_theirs(theirs, x, t, cond, parameters=None):
  """The answer of theirs to our inputs, which may be torch's."""
  call = {
    'hidden_states': first(torch.as_tensor(x)),
    'timestep': 1000 * torch.as_tensor(t),
    'encoder_hidden_states': torch.as_tensor(cond['text']),
    'pooled_projections': torch.as_tensor(cond['pooled']),
    'return_dict': False,
  }
  if parameters is None:
    (out,) = theirs(**call)
  else:
    (out,) = torch.func.functional_call(theirs, parameters, (), call)
  return torch.movedim(out, 1, -1)


def first(x):
  """Channels first."""
  return torch.movedim(x, -1, 1)


def of_ours(graph, params, x, t, cond):
  return nnx.merge(graph, params)(x, t, t, cond)


def assert_close(found, wanted, what=''):
  wanted = np.asarray(wanted)
  largest = np.abs(wanted).max()
  assert largest > 1e-3, what
  error = np.abs(np.asarray(found) - wanted).max()
  assert error < TOLERANCE * largest, (what, error, largest)


@pytest.mark.parametrize(
  ('branch', 'sides'),
  [
    *((branch, tiny_sd3.SIDE) for branch in tiny_sd3.BRANCHES),
    ('medium', (4, 14)),  # in another place of the table
  ],
)
def test_the_answer_and_every_block_are_theirs(branch, sides, monkeypatch):
  theirs, graph, params = both(branch)
  x, t, _, cond = tiny_sd3.inputs(sides=sides)
  wanted = dict[int, list]()
  for i, block in enumerate(theirs.transformer_blocks):
    block.register_forward_hook(
      lambda _, args, out, i=i: wanted.__setitem__(i, out)
    )
  with torch.no_grad():
    answer = of_theirs(theirs, x, t, cond)
  found, call = [], JointBlock.__call__

  def watched(self, h, e, mask, size, **options):
    h = call(self, h, e, mask, size, **options)
    found.append((h[:, size:], h[:, :size]))
    return h

  monkeypatch.setattr(JointBlock, '__call__', watched)
  scanned = branch == 'large_3_5'

  @jax.jit
  def run(params):
    found.clear()
    u = of_ours(graph, params, x, t, cond)
    return u, None if scanned else list(found)

  u, blocks = run(params)
  assert_close(u, answer)
  for i, pair in enumerate(blocks or ()):
    text, picture = wanted[i]
    assert_close(pair[1], picture, f'block {i}')
    if text is not None:
      assert_close(pair[0], text, f'text of block {i}')
  assert blocks is None or len(blocks) == len(wanted)


@pytest.mark.parametrize('branch', ['medium', 'dual_last'])
def test_gradients_and_tangents_are_theirs(branch):
  theirs, graph, params = both(branch)
  x, t, _, cond = tiny_sd3.inputs()
  dx, dt = np.cos(7 * x), np.float32([1.0, -0.5])
  own = dict(theirs.named_parameters())
  math = torch.nn.attention.SDPBackend.MATH  # the others have no jvp

  def loss(parameters):
    return (of_theirs(theirs, x, t, cond, parameters) * torch.tensor(dx)).sum()

  with torch.nn.attention.sdpa_kernel(math):
    wanted = torch.func.grad(loss)(own)
    _, slope = torch.func.jvp(
      lambda x, t: of_theirs(theirs, x, t, cond),
      (torch.tensor(x), torch.tensor(t)),
      (torch.tensor(dx), torch.tensor(dt)),
    )

  @jax.jit
  def derivatives(params):
    grads = jax.grad(lambda p: (of_ours(graph, p, x, t, cond) * dx).sum())(
      params
    )
    tangent = jax.jvp(
      lambda x, t: of_ours(graph, params, x, t, cond), (x, t), (dx, dt)
    )[1]
    return grads, tangent

  grads, tangent = derivatives(params)
  assert_close(tangent, slope.detach())
  found = RULES.to_torch(jax.device_get(by_name(grads)), 0)
  assert not found.pop('pos_embed.pos_embed').any()
  assert found.keys() == wanted.keys()
  largest = max(float(g.detach().abs().max()) for g in wanted.values())
  for name, gradient in wanted.items():
    error = np.abs(found[name] - gradient.detach().numpy()).max()
    assert error < TOLERANCE * largest, name


def test_bfloat16_is_not_coarser_than_theirs():
  theirs, graph, params = both('medium_3_5', dtype='bfloat16')
  x, t, _, cond = tiny_sd3.inputs(batch=4)
  half = {k: torch.tensor(v).bfloat16() for k, v in cond.items()}
  with torch.no_grad():
    exact = of_theirs(theirs, x, t, cond).numpy()
    rounded = (
      of_theirs(theirs.bfloat16(), torch.tensor(x).bfloat16(), t, half)
      .float()
      .numpy()
    )
  found = jax.jit(of_ours, static_argnums=0)(graph, params, x, t, cond)
  assert found.dtype == jnp.float32
  ours, others = (
    np.sqrt(np.mean((each - exact) ** 2)) for each in (found, rounded)
  )
  assert 0 < ours < others


def test_a_table_is_made_as_theirs():
  """At initialisation; those of files are read."""
  theirs = diffusers.SD3Transformer2DModel(**tiny_sd3.SMALL)
  wanted = theirs.state_dict()['pos_embed.pos_embed']
  found = jax.jit(lambda: tiny_sd3.make().position[...])()
  np.testing.assert_allclose(found, wanted, atol=1e-6)
