"""Three modes, which the regression that is the base blurs into their mean."""

import jax
import jax.numpy as jnp
import optax
import pytest

from flowdistill.objectives import adversarial, relativistic
from flowdistill.objectives.fakes import Fakes
from flowdistill.objectives.roles import Roles, View

MODES = jnp.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
N, WIDTH, STEPS = 256, 64, 1500


def layers(key, n_in, n_out):
  sizes = [n_in, WIDTH, WIDTH, n_out]
  keys = jax.random.split(key, 3)
  return [
    (jax.random.normal(k, (a, b)) / a**0.5, jnp.zeros(b))
    for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
  ]


def mlp(params, x):
  for w, b in params[:-1]:
    x = jax.nn.silu(x @ w + b)
  return x @ params[-1][0] + params[-1][1]


def student(params, x, t, s, cond):
  return mlp(params, jnp.concatenate([x, t[:, None], s[:, None]], axis=1))


def critic(params, x, cond):
  return mlp(params, x)[:, 0]


def blurred(nets, batch, key, step):
  """A regression of the one-step sample on independent data: their mean."""
  z = jax.random.normal(key, batch['x0'].shape)
  one = jnp.ones(len(z))
  x = z - nets.student(z, one, 0 * one, {})
  return jnp.square(x - batch['x0']).sum(1), {}


def finetuned(alpha, *, fooled):
  """The share of samples within 0.7 of each mode, after training."""
  tx = optax.adam(1e-3, b1=0.5, b2=0.9)
  u, d = layers(jax.random.key(0), 4, 2), layers(jax.random.key(1), 2, 1)

  def step(carry, i):
    u, d, su, sd = carry
    keys = jax.random.split(jax.random.fold_in(jax.random.key(2), i), 4)
    mode = MODES[jax.random.randint(keys[0], (N,), 0, 3)]
    x0 = mode + 0.2 * jax.random.normal(keys[1], (N, 2))
    batch = {'x0': x0, 'cond': {}}

    def of_student(u):
      nets = Roles(student=View(student, u), discriminator=View(critic, d))
      if not fooled:
        return blurred(nets, batch, keys[2], i)[0].mean()
      options = {'base': blurred, 'alpha': alpha}
      return adversarial(nets, batch, keys[2], i, **options)[0].mean()

    def of_critic(d):
      nets = Roles(student=View(student, u), discriminator=View(critic, d))
      return relativistic(nets, batch, keys[3], i)[0].mean()

    gu, gd = jax.grad(of_student)(u), jax.grad(of_critic)(d)
    move_u, su = tx.update(gu, su)
    move_d, sd = tx.update(gd, sd)
    u, d = optax.apply_updates(u, move_u), optax.apply_updates(d, move_d)
    return (u, d, su, sd), None

  start = u, d, tx.init(u), tx.init(d)
  (u, *_), _ = jax.jit(
    lambda start: jax.lax.scan(step, start, jnp.arange(STEPS))
  )(start)
  like = jnp.zeros((3000, 2))
  x = Fakes().draw(View(student, u), jax.random.key(9), like, {})
  near = jnp.linalg.norm(x[:, None] - MODES, axis=2) < 0.7
  return near.mean(0)


@pytest.mark.slow
def test_the_discriminator_recovers_every_mode_that_a_regression_blurs():
  alone, together = finetuned(0.1, fooled=False), finetuned(0.1, fooled=True)
  assert float(alone.max()) < 0.1
  assert float(together.min()) > 0.15
