"""A stage that trains two networks: a flow, and a critic of its samples.

The critic is a few layers on points, and sees data and what the student makes
of noise in one step; the student is to make what the critic takes for data.
Its `get_config` puts the critic and both losses into the tables.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from flowdistill.flow.losses import squared_norm
from flowdistill.flow.transport import interpolate
from flowdistill.networks import NETWORKS
from flowdistill.objectives import OBJECTIVES


class Critic(nnx.Module):
  """Logits [b] of points [b, d]."""

  signature = 'logits'

  def __init__(self, spec, *, width: int = 64, rngs):
    self.first = nnx.Linear(spec.shape[0], width, rngs=rngs)
    self.up = nnx.Linear(width, width, rngs=rngs)
    self.down = nnx.Linear(width, width, rngs=rngs)
    self.last = nnx.Linear(width, 1, rngs=rngs)

  def __call__(self, x, *, key=None):
    h = nnx.silu(self.first(x))
    h = h + self.down(nnx.silu(self.up(h)))
    return self.last(h)[:, 0]


def one_step(u, x1):
  """What a flow map makes of noise in one step."""
  t = jnp.ones(len(x1))
  return x1 - u(x1, t, 0 * t, {})


def fooling_flow(nets, batch, key, step, *, weight: float = 0.1):
  """A rectified flow whose one step is to be taken for data."""
  x0 = batch['x0']
  key_t, key_x = jax.random.split(key)
  t = jax.random.uniform(key_t, (len(x0),))
  x1 = jax.random.normal(key_x, x0.shape)
  v = nets.student(interpolate(x0, x1, t), t, t, {})
  fooled = jax.nn.softplus(-nets.critic(one_step(nets.student, x1)))
  return squared_norm(v - (x1 - x0)) + weight * fooled, {'fooled': fooled}


def telling_apart(nets, batch, key, step):
  """The logistic loss of data against samples."""
  x0 = batch['x0']
  made = one_step(nets.student, jax.random.normal(key, x0.shape))
  made = jax.lax.stop_gradient(made)
  real, fake = nets.critic(x0), nets.critic(made)
  return jax.nn.softplus(-real) + jax.nn.softplus(fake), {}


def register():
  """Puts them into the tables."""
  NETWORKS.setdefault('critic', Critic)
  OBJECTIVES.setdefault('fooling_flow', fooling_flow)
  OBJECTIVES.setdefault('telling_apart', telling_apart)


def get_config(arg=''):
  del arg
  register()
  return ConfigDict(
    {
      'dataset': 'moons',
      'network': {'name': 'mlp', 'width': 64, 'depth': 2},
      'objective': 'fooling_flow',
      'train': {'steps': 20, 'batch_size': 24},
      'optim': {'schedule': {'name': 'constant', 'learning_rate': 3e-3}},
      'ema': {'main': {'half_life': {'steps': 14}}},
      'checkpoint': {'every': 2, 'keep': 3},
      'log': {'every': 1},
      'roles': {
        'critic': {
          'network': 'critic',
          'objective': 'telling_apart',
          'optim': {
            'schedule': {'name': 'constant', 'learning_rate': 1e-2},
            'accumulate': 2,
          },
          'ema': {'main': {'decay': 0.9}},
          'every': 5,
        }
      },
    },
    sort_keys=False,
  )
