"""PyTorch's networks, losses and gradients are those of ours."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny

from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.timing import draw_inputs
from flowdistill.training.state import gradients, prepare

torch = pytest.importorskip('torch')
contenders = pytest.importorskip('flowdistill.against_torch.contenders')
draws = pytest.importorskip('flowdistill.against_torch.draws')
weights = pytest.importorskip('flowdistill.against_torch.weights')

pytestmark = pytest.mark.slow
DIT = [
  *('dit_b2', 'network.width=32', 'network.depth=2', 'network.heads=2'),
  'network.patch=4',
]
EDM2 = [
  *('edm2_xs', 'dataset.shape=(16,16,3)', 'network.width=16'),
  *('network.ch_mult=(1,2)', 'network.attention=(8,)'),
  'network.head_channels=8',
]
CASES = {
  'dit': DIT,
  'dit_unlabelled': [*DIT, 'dataset.classes=0'],
  'edm2': EDM2,
  'edm2_sigma': [*EDM2, 'network.time=edm', 'dataset.classes=0'],
}


def blueprint_of(case, stage, workdir, *more):
  name, *changes = case
  config = f'{tiny.CONFIGS / "bench" / name}.py:runlocal'
  specs = tiny.stages(config, *changes, 'train.batch_size=3', *more)
  return Blueprints(specs, workdir, recorded=True)[stage]


def nchw(x):
  x = np.moveaxis(x, -1, 1) if np.ndim(x) == 4 else np.asarray(x)
  return torch.tensor(x).contiguous()


def assert_close(ours, theirs, least=0.0):
  """Within 1e-4 of the largest number, or of `least`."""
  theirs = theirs.detach().numpy()
  ours = np.moveaxis(ours, -1, 1) if np.ndim(ours) == 4 else np.asarray(ours)
  assert ours.shape == theirs.shape
  scale = max(np.abs(ours).max(), least)
  assert scale > 0
  np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize('name', CASES)
def test_values_and_tangents_are_those_of_ours(name, tmp_path):
  extra = "network.scalars=('guidance',)"
  blueprint = blueprint_of(CASES[name], 'flow', tmp_path, extra)
  inputs = draw_inputs(blueprint, 0)
  model = blueprint.learners['student'].model
  step = contenders.TorchStep(blueprint, inputs.params['student'], {}, 'cpu')
  rng = np.random.default_rng(1)
  shape = (3, *blueprint.sees.shape)
  x, v = rng.standard_normal((2, *shape)).astype(np.float32)
  t, s = np.array([[0.9, 0.5, 0.2], [0.1, 0.5, 0.0]], np.float32)
  cond = {'guidance': np.array([1.0, 2.0, 3.0], np.float32)}
  if blueprint.sees.num_classes:  # the last one is the null label
    cond['label'] = np.array([1, 7, blueprint.sees.num_classes], np.int32)
  params = inputs.params['student']

  def tangent(x, t):
    def call(x, t):
      return model.apply(params, x, t, s, cond)

    return jax.jvp(call, (x, t), (v, 0 * t + 1))

  F, dF_dt = jax.jit(tangent)(x, t)
  theirs = {k: torch.tensor(c) for k, c in cond.items()}

  def call_torch(x, t):
    return step.student(x, t, nchw(s), theirs, plain=True)

  found = torch.func.jvp(
    call_torch, (nchw(x), nchw(t)), (nchw(v), torch.ones(len(t)))
  )
  assert_close(F, found[0])
  assert_close(dF_dt, found[1])
  assert_close(F, step.student(nchw(x), nchw(t), nchw(s), theirs))


@pytest.mark.parametrize('stage', ['flow', 'distil'])
@pytest.mark.parametrize('name', ['dit', 'edm2'])
def test_loss_and_gradient_are_those_of_ours(name, stage, tmp_path):
  blueprint = blueprint_of(CASES[name], stage, tmp_path)
  inputs = draw_inputs(blueprint, 0)
  args = inputs.state, inputs.batch, inputs.key
  drawn = jax.jit(lambda *args: draws.draws(blueprint, *args))(*args)
  assert (stage == 'flow') == (float(drawn['r']) == 0)
  params = inputs.params['student']
  step = contenders.TorchStep(blueprint, params, inputs.frozen, 'cpu')
  theirs = step.gradient(step.draws(drawn))
  loss, gradient, _ = jax.jit(
    lambda *args: gradients_of(blueprint, inputs.frozen, *args)
  )(*args)
  assert theirs == pytest.approx(float(loss), rel=1e-4)
  found = dict(step.student.named_parameters())
  compared = 0
  ours_all = {p: x.numpy() for p, x in weights.state_dict(gradient).items()}
  largest = max(np.abs(x).max() for x in ours_all.values())
  for path, ours in ours_all.items():
    if path in found and found[path].grad is not None and ours.any():
      # A gain's is a sum of many terms that cancel.
      assert_close(ours, flat_axes(found[path].grad), 0.1 * largest)
      compared += 1
  assert compared > 20


def gradients_of(blueprint, frozen, state, batch, key):
  train = blueprint.stage.train
  batch, keys = prepare(state, batch, key, train.drop_cond, train.flip)
  roles = blueprint.roles
  return gradients('student', roles, state, frozen, batch, *keys)


def flat_axes(x):
  """Kernels have four axes here, and are not images."""
  return x if x.ndim != 4 else torch.movedim(x, -1, 1)


def test_a_step_updates_as_ours(tmp_path):
  """Adam, clipping, and the projection of the weights."""
  changes = [*EDM2, 'optim.clip=0.01', 'optim.schedule.learning_rate=1e-2']
  blueprint = blueprint_of(changes, 'flow', tmp_path)
  inputs = draw_inputs(blueprint, 0)
  args = inputs.state, inputs.batch, inputs.key
  drawn = jax.jit(lambda *args: draws.draws(blueprint, *args))(*args)
  params = inputs.params['student']
  step = contenders.TorchStep(blueprint, params, {}, 'cpu')
  step(step.draws(drawn))
  state, _ = jax.jit(blueprint.step())(inputs.state, {}, *args[1:])
  ours = weights.state_dict(state.roles['student'].params)
  moved = 0.0
  for name, theirs in step.student.named_parameters():
    error = (ours[name] - theirs.detach()).abs()
    # Adam's first step is the sign of the gradient: of a few of rounding.
    assert float(error.median()) < 1e-5, name
    before = weights.state_dict(params)[name]
    moved = max(moved, float((theirs.detach() - before).abs().max()))
  assert moved > 1e-3


def test_kernels_and_stacks_are_renamed():
  params = {
    'blocks': {'each': {'qkv': {'kernel': jnp.arange(24.0).reshape(2, 3, 4)}}},
    'conv': {'kernel': jnp.arange(36.0).reshape(3, 3, 2, 2)},
    'label': {'embedding': jnp.ones((5, 2))},
    'gain': jnp.ones(()),
  }
  found = weights.state_dict(params)
  assert {name: tuple(x.shape) for name, x in found.items()} == {
    'blocks.0.qkv.weight': (4, 3),
    'blocks.1.qkv.weight': (4, 3),
    'conv.weight': (2, 2, 3, 3),
    'gain': (),
    'label.weight': (5, 2),
  }
  assert found['blocks.1.qkv.weight'][2, 1] == 12 + 1 * 4 + 2
  assert found['conv.weight'][1, 0, 2, 1] == (2 * 3 + 1) * 4 + 0 * 2 + 1


class Broken:
  """A step that fails when it is compiled."""

  device = types.SimpleNamespace(type='cpu')

  def gradient(self, drawn, *, compiled):
    if compiled:
      raise RuntimeError('\nno C++ compiler\nmore lines')
    raise RuntimeError('out of memory')


def test_why_it_cannot_be_compiled_is_said():
  compiled = contenders.Contender(Broken(), None, compiled=True)
  assert compiled.first() == {'unavailable': 'because no C++ compiler'}
  eager = contenders.Contender(Broken(), None, compiled=False)
  with pytest.raises(RuntimeError, match='out of memory'):
    eager.first()
