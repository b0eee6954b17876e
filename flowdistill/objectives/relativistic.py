"""A relativistic discriminator, with zero-centred gradient penalties.

  L_D = softplus(D(fake) − D(real)) + r1/2 ‖∇D(real)‖² + r2/2 ‖∇D(fake)‖²
  L_G = softplus(D(real) − D(fake))

A real and a fake example are compared, in place of each with a threshold. R1 is
the penalty at real, R2 at fake examples.

Source: Huang et al., "The GAN is dead; long live the GAN! A Modern Baseline
GAN" (2024), https://arxiv.org/abs/2501.05441 (R3GAN); Jolicoeur-Martineau, "The
relativistic discriminator" (2018), https://arxiv.org/abs/1807.00734. Lazy
penalties: Karras et al., "Analyzing and Improving the Image Quality of
StyleGAN" (2019), https://arxiv.org/abs/1912.04958, section 3.1. As Align Your
Flow (2025), https://arxiv.org/abs/2506.14603, Algorithm 2, uses them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.losses import squared_norm
from flowdistill.objectives.fakes import ONE_STEP, Fakes
from flowdistill.objectives.roles import Roles

Array = jax.Array


def relativistic(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  fakes: Fakes = ONE_STEP,
  r1: float = 0.1,
  r2: float = 0.1,
  penalty_every: int = 1,
) -> tuple[Array, dict[str, Array]]:
  """The objective of the role `discriminator`.

  It costs one forward pass of the student for each jump of the fakes, and 6 of
  the discriminator, 3 more for each penalty.

  Args:
    nets: uses `discriminator`, called as D(x, cond), and `student`.
    batch: `x0` [b, ...] and `cond`.
    key: random key of this step.
    step: number of updates of the discriminator, for `penalty_every`.
    fakes: how samples of the student are drawn.
    r1: β of R1; 0 disables it.
    r2: β of R2; 0 disables it. In the paper both are 0.1.
    penalty_every: updates from one with penalties to the next; these are
      multiplied by it, so that their mean over the updates stays. 1 has them in
      every update.

  Returns:
    loss [b], and the means of the logits of either kind and of the penalties,
    which are 0 in an update without.

  Raises:
    ValueError: if an option is out of range, or has no effect.
  """
  for name, value in {'r1': r1, 'r2': r2}.items():
    if value < 0:
      raise ValueError(f'{name} = {value} must be at least 0')
  if penalty_every < 1:
    raise ValueError(f'penalty_every = {penalty_every} must be at least 1')
  if penalty_every > 1 and not (r1 or r2):
    raise ValueError(
      f'penalty_every = {penalty_every} has no effect: r1 = r2 = 0'
    )
  critic, cond, real = nets.discriminator, batch['cond'], batch['x0']
  fake = jax.lax.stop_gradient(fakes.draw(nets.student, key, real, cond))

  def plain(_: None) -> tuple[Array, Array, Array]:
    zero = jnp.zeros(len(real), real.dtype)
    return critic(real, cond), critic(fake, cond), zero

  def penalised(_: None) -> tuple[Array, Array, Array]:
    at_real, slope_real = with_penalty(critic, real, cond, r1)
    at_fake, slope_fake = with_penalty(critic, fake, cond, r2)
    return at_real, at_fake, penalty_every * (slope_real + slope_fake)

  if not (r1 or r2):
    at_real, at_fake, penalty = plain(None)
  elif penalty_every == 1:
    at_real, at_fake, penalty = penalised(None)
  else:
    due = step % penalty_every == 0
    at_real, at_fake, penalty = jax.lax.cond(due, penalised, plain, None)
  metrics = {
    'real': jnp.mean(at_real),
    'fake': jnp.mean(at_fake),
    'penalty': jnp.mean(penalty),
  }
  return jax.nn.softplus(at_fake - at_real) + penalty, metrics


def with_penalty(
  critic: Callable[..., Array], x: Array, cond: Any, beta: float
) -> tuple[Array, Array]:
  """D(x) [b], and β/2 ‖∇D(x)‖² [b], the slope of the sum of all logits."""
  if not beta:
    return critic(x, cond), jnp.zeros(len(x), x.dtype)

  def logits(x: Array) -> tuple[Array, Array]:
    each = critic(x, cond)
    return jnp.sum(each), each

  slope, each = jax.grad(logits, has_aux=True)(x)
  return each, beta / 2 * squared_norm(slope)
