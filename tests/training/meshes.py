"""Loss and gradients of an objective on eight devices, against one device.

  python meshes.py NETWORK OBJECTIVE 2x2x2 ...

prints, for every mesh (data x fsdp x tensor), the largest differences relative
to the largest number of an array, and how many arrays were really cut. `lora`
is a DiT of which only low-rank factors learn; its base is the teacher.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from flowdistill.build.lora import Adaptation
from flowdistill.build.models import Model, with_rows
from flowdistill.config.sections import Lora
from flowdistill.flow.guidance import fixed
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.dit import DiT
from flowdistill.networks.mmdit import MMDiT
from flowdistill.networks.options import NetworkOptions
from flowdistill.objectives import OBJECTIVES
from flowdistill.training.ema import Ema
from flowdistill.training.mesh import AXES, make_mesh
from flowdistill.training.roles import Learning, Role
from flowdistill.training.sharding import Layout
from flowdistill.training.state import gradients, init_state

SHAPE, CLASSES, BATCH = (8, 8, 1), 10, 16
TOKENS = {
  'tokens': Condition((4,), 'int32', 9),
  'mask': Condition((4,), 'bool', False),
}
OPTIONS = {'ayf_emd': {'guidance': fixed}, 'scm': {'distil': True}}


class Conv(nnx.Module):
  """Two convolutions, shifted by both times and the label."""

  def __init__(self, shape, num_classes, *, rngs):
    self.times = nnx.Linear(2, 32, rngs=rngs)
    self.label = nnx.Embed(num_classes + 1, 32, rngs=rngs)
    self.up = nnx.Conv(shape[-1], 32, (3, 3), rngs=rngs)
    self.middle = nnx.Conv(32, 32, (3, 3), rngs=rngs)
    self.down = nnx.Conv(32, shape[-1], (3, 3), rngs=rngs)

  def __call__(self, x, t, s, cond, *, key=None):
    e = self.times(jnp.stack([t, s], 1)) + self.label(cond['label'])
    h = nnx.silu(self.up(x) + e[:, None, None])
    h = h + self.middle(nnx.silu(h))
    return self.down(nnx.silu(h))


def dit(shape, num_classes, *, rngs, depth=2, remat=None):
  """No array is zero, so that no gradient is."""
  model = DiT(
    DataSpec.labelled(shape, num_classes),
    width=64,
    depth=depth,
    options=NetworkOptions(remat=remat),
    rngs=rngs,
  )
  return moved(model)


def moved(model):
  """The network with no array at zero, so that no gradient is."""
  graph, params = nnx.split(model)
  keys = iter(jax.random.split(jax.random.key(1), 200))
  return nnx.merge(
    graph,
    jax.tree.map(
      lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), params
    ),
  )


def joint(shape, num_classes, *, rngs):
  """Text and pictures: four words of which the last two may be none."""
  label = DataSpec.labelled(shape, num_classes).cond
  model = MMDiT(
    DataSpec(shape, {**label, **TOKENS}), width=64, text_depth=1, rngs=rngs
  )
  return moved(model)


MAKE = {
  'joint': joint,
  'dit': dit,
  'scan': functools.partial(dit, depth=6, remat='full'),
  'lora': functools.partial(dit, depth=6),
  'conv': Conv,
}


def problem(network, name):
  """(value and gradient of (params, frozen, batch), its arguments)."""
  make = MAKE[network]
  graph, params = nnx.split(make_one(make))
  _, other = nnx.split(make(SHAPE, CLASSES, rngs=nnx.Rngs(2)))
  objective = OBJECTIVES[name]

  def loss(*args):
    return objective(*args, **OPTIONS.get(name, {}))

  learns = Learning(loss, optax.sgd(1.0), {'main': Ema(lambda step: 1.0)})
  model = Model(graph, params)
  student, own, base = model, params, None
  if network == 'lora':
    student, own, base = *adapted(model, lambda: make_one(make)), 'teacher'
  roles = {
    'student': Role(student, learns=learns, base=base),
    'teacher': Role(model, 'velocity', base='teacher'),
    'weak': Role(model, 'velocity', base='weak'),
  }
  rng = np.random.default_rng(0)
  batch = {
    'x0': rng.normal(size=(BATCH, *SHAPE)).astype(np.float32),
    'cond': {'label': np.arange(BATCH) % CLASSES},
    'null': {'label': np.full(BATCH, CLASSES)},
  }
  if network == 'joint':
    tokens = rng.integers(0, 9, (BATCH, 4), np.int32)
    mask = np.arange(4) < rng.integers(2, 5, (BATCH, 1))
    batch['cond'] |= {'tokens': tokens, 'mask': mask}
    batch['null'] |= {'tokens': np.full_like(tokens, 9), 'mask': 0 * mask > 0}
  key = jax.random.key(3)

  def value(params, frozen, batch):
    state = init_state(roles, {'student': params})
    loss, grads, _ = gradients('student', roles, state, frozen, batch, key, key)
    return loss, grads

  return value, own, {'teacher': other, 'weak': params}, batch


def make_one(make):
  return make(SHAPE, CLASSES, rngs=nnx.Rngs(0))


def adapted(plain, make):
  """The network with factors that are not zero, and these."""
  lora = Lora(layers=('blocks.*.qkv', '*.out', '*.up', '*.down'), rank=16)
  found = Adaptation(plain, make, lora, lambda: jax.random.key(4), 'lora')
  own = found.init()
  return found.model(), jax.tree.map(
    lambda x: (
      x + 0.05 * jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
    ),
    own,
  )


def main(network, objective, *meshes):
  value, params, frozen, batch = problem(network, objective)
  one = jax.jit(value)(params, frozen, batch)
  for mesh in meshes:
    sizes = dict(zip(AXES, map(int, mesh.split('x')), strict=True))
    layout = Layout(make_mesh(sizes))
    put = jax.device_put(
      (params, frozen),
      (layout.shardings(params), layout.shardings(frozen)),
    )
    kept = layout.replicated, layout.shardings(params)
    step = jax.jit(with_rows(value, layout.constrain), out_shardings=kept)
    many = step(*put, layout.batch(batch))
    leaves = [jax.tree.leaves(x) for x in (one, many)]
    apart = [
      float(jnp.max(jnp.abs(a - jax.device_get(b))) / jnp.max(jnp.abs(a)))
      for a, b in zip(*leaves, strict=True)
    ]
    cut = sum(not x.sharding.is_fully_replicated for x in leaves[1])
    print(json.dumps({'loss': apart[0], 'grads': max(apart), 'cut': cut}))


if __name__ == '__main__':
  main(*sys.argv[1:])
