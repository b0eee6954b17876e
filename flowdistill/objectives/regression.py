"""The regression on a frozen target a tangent away, ‖F − sg(F − g)‖².

Its gradient with respect to F is 2 g, whatever g is: a way to prescribe the
gradient. Align Your Flow, sCM and others have this form.
"""

import jax
import jax.numpy as jnp

from flowdistill.flow.losses import (
  Reduction,
  normalise_tangent,
  squared_norm,
)

Array = jax.Array
Loss = tuple[Array, dict[str, Array]]


def warm_up(step: Array, max_r: float, warmup_steps: int) -> Array:
  """r = min(max_r, step / H), the fraction of the tangent that is used.

  Raises:
    ValueError: if `max_r` is outside [0, 1], or H, `warmup_steps`, is negative.
  """
  if not 0 <= max_r <= 1:
    raise ValueError(f'max_r = {max_r} must lie in [0, 1]')
  if warmup_steps < 0:
    raise ValueError(f'warmup_steps = {warmup_steps} must be at least 0')
  return jnp.minimum(max_r, step / warmup_steps if warmup_steps else max_r)


def regress_on_tangent(
  F: Array,
  g: Array,
  weight: Array,
  c: float | None,
  r: Array,
  reduction: Reduction,
) -> Loss:
  """w ‖F − sg(F − g / (‖g‖ + c))‖².

  Args:
    F: output of the network, [b, ...].
    g: difference between F and its target, [b, ...].
    weight: w [b].
    c: of the normalisation; None disables it. Its ‖g‖ is the root of a sum,
      whatever the reduction.
    r: of the warm-up, for the metrics.
    reduction: of the squares over an example.

  Returns:
    loss [b], and the means of ‖g‖ before normalisation and of r.
  """
  g = jax.lax.stop_gradient(g)
  metrics = {'tangent_norm': jnp.mean(jnp.sqrt(squared_norm(g))), 'r': r}
  g = g if c is None else normalise_tangent(g, c)
  target = jax.lax.stop_gradient(F - g)
  return weight * reduction(jnp.square(F - target)), metrics
