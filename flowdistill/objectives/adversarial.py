"""Adversarial finetuning: the student's fakes against data, regularised.

  L = L_adv + α w L_base,  L_adv = softplus(D(real) − D(fake)),
  w = ‖∇L_adv‖ / ‖∇L_base‖

with any objective of a student as base, in the paper EMD. The discriminator is
a role of its own, with the objective `relativistic`.

The gradients are those in the student's parameters. An objective is a function
of networks, and sees the parameters of the one that learns as `View.params`: it
takes both gradients itself, and returns a loss whose gradient is their weighted
sum g, which is sg(L) + ⟨sg(g), θ − sg(θ)⟩. So either term is differentiated
once, w costs nothing, and its norm may be taken over any of the parameters.
(Norms of the gradients in the network's outputs were the alternative: the terms
ask the network at different points, and their outputs are not the same ones.)

Source: Sabour, Fidler, Kreis, "Align Your Flow: Scaling Continuous-Time Flow
Map Distillation" (2025), https://arxiv.org/abs/2506.14603, Algorithm 2. The
weight of the other term, and the last layer alone: Esser, Rombach, Ommer,
"Taming Transformers for High-Resolution Image Synthesis" (2020),
https://arxiv.org/abs/2012.09841, eq. 7.
"""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.objectives.align_your_flow import ayf_emd
from flowdistill.objectives.fakes import ONE_STEP, Fakes
from flowdistill.objectives.roles import Objective, Roles, View

Array = jax.Array
Term = tuple[Array, dict[str, Array], Any]
"""loss [b], metrics, gradient of the mean loss."""
ADAPTIVE = (None, 'base', 'adversarial')
MOST = 1e4  # largest adaptive weight


def adversarial(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  base: Objective = ayf_emd,
  fakes: Fakes = ONE_STEP,
  alpha: float = 0.1,
  adaptive: str | None = 'base',
  layers: str = '*',
  max_weight: float = MOST,
) -> tuple[Array, dict[str, Array]]:
  """L_adv + α w L_base; before the discriminator's `start`, L_base alone.

  It costs the base, and for the fakes 3 forward passes of the student (one more
  for each further jump) and 3 of the discriminator.

  Args:
    nets: uses `student`, `discriminator` as D(x, cond), and what `base` uses.
    batch: `x0` [b, ...], `cond`, and what `base` uses.
    key: random key of this step.
    step: of this stage, for `base`.
    base: the objective that is kept as a regulariser.
    fakes: how samples are drawn; as in the objective of the discriminator.
    alpha: α, at least 0, in the paper 0.1.
    adaptive: the term that w multiplies. 'base' is Algorithm 2, line 13.
      'adversarial' is L_base + α w L_adv with w = ‖∇L_base‖ / ‖∇L_adv‖, which
      circulates too: there the base leads. None is L_adv + α L_base.
    layers: pattern of the paths of the parameters over which norms are taken,
      such as '*' for all, or 'last.*' for the last layer of an MLP.
    max_weight: largest w, above 0.

  Returns:
    loss [b], whose gradient is that of the sum above with w as a constant; the
    metrics of `base`, the means of both terms, and α w (1 before the start).

  Raises:
    ValueError: if an option is out of range, or has no effect.
  """
  if alpha < 0:
    raise ValueError(f'alpha = {alpha} must be at least 0')
  if adaptive not in ADAPTIVE:
    raise ValueError(f'adaptive = {adaptive!r} must be one of {ADAPTIVE}')
  if not max_weight > 0:
    raise ValueError(f'max_weight = {max_weight} must be above 0')
  if adaptive is None and (layers, max_weight) != ('*', MOST):
    raise ValueError('layers and max_weight have no effect: adaptive = None')
  student: Any = nets.student
  key_fake = jax.random.fold_in(key, 1)  # the keys of base are as without it

  def regulariser(net: View) -> tuple[Array, dict[str, Array]]:
    return base(nets.having(student=net), batch, key, step)

  def fooling(net: View) -> tuple[Array, dict[str, Array]]:
    cond, real = batch['cond'], batch['x0']
    fake = fakes.draw(net, key_fake, real, cond)
    critic = nets.discriminator
    return jax.nn.softplus(critic(real, cond) - critic(fake, cond)), {}

  kept, metrics, g_base = differentiated(regulariser, student)
  started = getattr(nets.discriminator, 'started', True)
  fooled, g_fooled = when(
    started, lambda: differentiated(fooling, student)[::2]
  )
  a, b = balance(
    norm(g_fooled, layers), norm(g_base, layers), alpha, adaptive, max_weight
  )
  a, b = jnp.where(started, a, 0.0), jnp.where(started, b, 1.0)
  g = jax.tree.map(lambda x, y: a * x + b * y, g_fooled, g_base)
  loss = prescribed(a * fooled + b * kept, student.params, g)
  terms = {
    'adversarial': jnp.mean(fooled),
    'base': jnp.mean(kept),
    'adaptive_weight': a if adaptive == 'adversarial' else b,
  }
  return loss, metrics | terms


def differentiated(
  f: Callable[[View], tuple[Array, dict[str, Array]]], net: View
) -> Term:
  """f(net), and the gradient of its mean in the parameters; all frozen."""

  def mean_loss(params: Any) -> tuple[Array, Any]:
    loss, metrics = f(net.at(params))
    return jnp.mean(loss), (loss, metrics)

  params = jax.lax.stop_gradient(net.params)
  gradient, (loss, metrics) = jax.grad(mean_loss, has_aux=True)(params)
  return jax.lax.stop_gradient((loss, metrics, gradient))


def when(started: Any, f: Callable[[], Any]) -> Any:
  """f(), or zeros at no cost until `started`."""
  if started is True:
    return f()
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f))
  return jax.lax.cond(started, f, lambda: zeros)


def balance(
  adversarial: Array,
  base: Array,
  alpha: float,
  adaptive: str | None,
  max_weight: float,
) -> tuple[Any, Any]:
  """The factors of L_adv and L_base, from the norms of their gradients."""
  if adaptive is None:
    return 1.0, alpha
  if adaptive == 'base':
    return 1.0, alpha * ratio(adversarial, base, max_weight)
  return alpha * ratio(base, adversarial, max_weight), 1.0


def ratio(a: Array, b: Array, most: float) -> Array:
  """min(a / b, most), finite for b = 0."""
  return jnp.minimum(a / jnp.maximum(b, jnp.finfo(b.dtype).tiny), most)


def norm(gradient: Any, layers: str) -> Array:
  """The norm of those arrays whose path matches the pattern `layers`.

  Raises:
    ValueError: if there are none.
  """
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf
    for path, leaf in jax.tree.leaves_with_path(gradient)
  }
  chosen = [x for n, x in leaves.items() if fnmatch.fnmatchcase(n, layers)]
  if not chosen:
    names = ', '.join(list(leaves)[-3:])
    raise ValueError(
      f'layers = {layers!r} must match a parameter of the student, such as '
      f'{names}'
    )
  return jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in chosen))


def prescribed(loss: Array, params: Any, gradient: Any) -> Array:
  """loss [b], with `gradient` as that of its mean in `params`."""

  def product(w: Array, g: Array) -> Array:
    return jnp.sum(g * (w - jax.lax.stop_gradient(w)))

  terms = jax.tree.leaves(jax.tree.map(product, params, gradient))
  return jax.lax.stop_gradient(loss) + sum(terms)
