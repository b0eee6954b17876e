"""What convolutions cost on this machine, in milliseconds of the processor.

  PYTHONPATH=. python tests/networks/cost.py

First the taps of `resampling.filtered`, as the convolution with a group for
each channel that they are and as the sum that is computed; then the gradient of
a convolution of 3 x 3 in its kernel, as it is, in a branch of `jax.lax.cond`,
and in a body of `jax.lax.scan`. The best of five, after one that compiles.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from flowdistill.networks.resampling import TAPS, filtered

SHAPES = ((64, 32, 32, 8), (8, 16, 16, 128), (2, 64, 64, 128))
WAYS = {
  'same side': {'padding': 2},
  'half': {'padding': 1, 'down': 2},
  'double': {'padding': 2, 'up': 2},
}
ROUNDS = 5


def grouped(h, *, padding, up=1, down=1):
  taps = jnp.asarray(np.outer(TAPS, TAPS) * up**2, h.dtype)[:, :, None, None]
  return jax.lax.conv_general_dilated(
    h,
    jnp.tile(taps, (1, 1, 1, h.shape[-1])),
    (down, down),
    [(padding, padding)] * 2,
    lhs_dilation=(up, up),
    feature_group_count=h.shape[-1],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def milliseconds(f, *args):
  f = jax.jit(f)
  jax.block_until_ready(f(*args))
  found = []
  for _ in range(ROUNDS):
    started = time.process_time()
    jax.block_until_ready(f(*args))
    found.append(1000 * (time.process_time() - started))
  return min(found)


def both(f, x, options):
  """The cost of f and of its pull-back."""

  def forward(h):
    return f(h, **options)

  g = forward(x)
  back = milliseconds(lambda x, g: jax.vjp(forward, x)[1](g), x, g)
  return f'{milliseconds(forward, x):.1f} / {back:.1f}'


def taps():
  for shape in SHAPES:
    x = jax.random.normal(jax.random.key(0), shape)
    for name, options in WAYS.items():
      costs = [both(f, x, options) for f in (grouped, filtered)]
      print(f'| {[*shape]}, {name} | {costs[0]} | {costs[1]} |')


def nested():
  x = jax.random.normal(jax.random.key(0), (64, 32, 32, 8))
  kernel = jnp.ones((3, 3, 8, 8))

  def loss(kernel):
    numbers = ('NHWC', 'HWIO', 'NHWC')
    h = jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=numbers
    )
    return jnp.sum(h**2)

  gradient = jax.grad(loss)

  def branch(kernel, due):
    return jax.lax.cond(due, gradient, jnp.zeros_like, kernel)

  def body(kernel):
    def step(kernel, _):
      return kernel - 1e-9 * gradient(kernel), None

    return jax.lax.scan(step, kernel, None, length=4)[0]

  print(f'| as it is | {milliseconds(gradient, kernel):.1f} |')
  print(f'| in `cond` | {milliseconds(branch, kernel, True):.1f} |')
  print(f'| in `scan` | {milliseconds(body, kernel) / 4:.1f} |')


if __name__ == '__main__':
  taps()
  nested()
