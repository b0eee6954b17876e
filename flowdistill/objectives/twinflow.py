"""TwinFlow: RCGM, and a twin at negative time that learns the model's samples.

With F(x_t, t, s) the average velocity and F(x_t, −t, −t) that of the twin:

  L_base     d(F(x_t, t, s), sg(F − clip(g))), RCGM's   of e2e, mul, any, one
  L_adv      d(F(x_t, −t, −t), x1 − x̂0)                 of adv
  L_rectify  d(F(x1, 1, 0), sg(F − clip(Δ(x', t'))))     of e2e
             Δ(x', t') = F(x', −t', −t') − F(x', t', t')

x̂0 = z − F(z, 1, 0) is a sample of the model itself, and x' is a noisy version,
at time t', of x1 − F(x1, 1, 0). In terms of scores
Δ = (s_real − s_twin) t' / (1 − t'), so L_rectify moves a sample to where real
data is denser than the model's samples: distribution matching, without a second
network.

Source: Cheng et al., "TwinFlow: Realizing One-step Generation on Large Models
with Self-adversarial Flows" (2025), https://arxiv.org/abs/2512.05150, and its
code for what the paper leaves open; names of the code are in brackets below.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.flow.losses import Reduction, mean
from flowdistill.flow.times import TimeLaw, uniform
from flowdistill.flow.transport import (
  AverageVelocity,
  expand,
  flow_map,
  interpolate,
)
from flowdistill.flow.weighting import Weight, tangent
from flowdistill.objectives.branches import Kinds, times_of
from flowdistill.objectives.recursion import Recursion, regress
from flowdistill.objectives.roles import Roles

Array = jax.Array
ALL_BUT_ONE = Kinds()


def twinflow(
  nets: Roles,
  batch: Mapping[str, Any],
  key: Array,
  step: Array,
  *,
  kinds: Kinds = ALL_BUT_ONE,
  times: TimeLaw = uniform,
  consistency_ratio: float = 1.0,
  multi_gap: float = 0.05,
  weight: Weight = tangent,
  order: int = 2,
  delta: float = 0.01,
  clip: float | None = 1.0,
  loss: str = 'barron',
  c: float = 1e-3,
  reduction: Reduction = mean,
  enhanced_ratio: float = 0.0,
  enhanced_range: tuple[float, ...] = (0.0, 1.0),
  target: str = 'student',
  distil: bool = False,
  data_free: bool = False,
  matching: float = 0.5,
  matching_times: TimeLaw = uniform,
  matching_clip: float | None = 1.0,
) -> tuple[Array, dict[str, Array]]:
  """The mixture of RCGM, the self-adversarial flow and distribution matching.

  Forward passes: 3, plus N for the jumps, 2 for enhancement, 1 for samples of
  the model itself (adv or data-free), 2 for matching, 1 when distilling (which
  for the target 'frozen' is one of the enhancement): 10 in the paper's recipe.
  A term of weight 0 costs nothing; any other is computed for the whole batch.

  Args:
    nets: uses `student`; with target 'ema' `ema`, with 'frozen' or `distil`
      `teacher`.
    batch: `x0` [b, ...] and `cond`; for enhancement `null`. With `data_free`
      only the shape of `x0` is used.
    key: random key of this step.
    step: unused; every objective takes it.
    kinds: frequencies of e2e, mul, any, adv and one [probs].
    times: distribution of t [time_dist_ctrl: (1, 1, 1) is uniform, (a, b, c)
      is `beta` with a, b and high = c].
    consistency_ratio: longest jump of `any` as a fraction of t, in [0, 1]; at 0
      s is t [consistc_ratio].
    multi_gap: likewise for `mul`, where it is less, in [0, 1].
    weight: w(t, s); an example of adv has weight 1.
    order: N of RCGM [estimate_order]. 0 is flow matching, on mul and adv alone,
      and the loss is the mean over these.
    delta: as in `rcgm`, like clip, loss [loss_func_type], c and distil.
    clip: largest |g|.
    loss: d.
    c: of 'barron'.
    reduction: as in `rcgm`.
    enhanced_ratio: as in `rcgm`; never on adv.
    enhanced_range: as in `rcgm`; an open interval, so that e2e, with t = 1, is
      outside (0, 1) and inside (0, 1.1).
    target: as in `rcgm` [ema_decay_rate: 0 is 'student', 1 is 'frozen', else
      'ema', and the rate is `ema.main.decay`].
    distil: whether v is the velocity of `nets.teacher`; not on adv.
    data_free: whether x0 is the model's own sample, and v within the range
      v_u + ratio (v_c − v_u) of the frozen teacher, so that the ratio is a
      scale of classifier-free guidance, in the paper 4 [use_image_free].
    matching: weight of L_rectify, which is a mean over e2e [dist_match_cof].
    matching_times: distribution of t'.
    matching_clip: largest |Δ| of a coordinate, None for no clip.

  Returns:
    loss [b], and the means of its terms, whose sum is the mean loss.

  Raises:
    ValueError: if an option is out of range or has no effect.
  """
  del step
  recursion = Recursion(
    order=order,
    delta=delta,
    clip=clip,
    enhanced_ratio=enhanced_ratio,
    enhanced_range=enhanced_range,
    target=target,
    distil=distil,
    data_free=data_free,
  )
  _check_kinds(kinds, recursion, consistency_ratio, matching)
  _check_matching(kinds, consistency_ratio, matching, matching_clip)
  u, cond, x0 = nets.student, batch['cond'], batch['x0']
  key_kind, key_t, key_own, key_x, key_match = jax.random.split(key, 5)
  kind = kinds.draw(key_kind, len(x0))
  t, s = times_of(key_t, kind, times, consistency_ratio, multi_gap)
  adv = kind['adv']
  twin = expand(adv, x0)
  if kinds.adv or data_free:
    own = _own_samples(u, key_own, x0, cond)
    x0 = own if data_free else jnp.where(twin, own, x0)
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  x_t = interpolate(x0, x1, t)
  v = recursion.velocity(nets, batch, (x0, x1), x_t, t)
  v = jnp.where(twin, x1 - x0, v)
  sign = jnp.where(adv, -1.0, 1.0)
  F = u(x_t, sign * t, sign * s, cond)
  g = jnp.where(twin, F - v, recursion.residual(nets, F, v, x_t, t, s, cond))
  flow = jnp.where(adv, 1.0, weight(t, s)) * regress(F, g, loss, c, reduction)
  if not order:
    learnt = kind['mul'] | adv
    flow = jnp.where(learnt, flow, 0.0) / kinds.share('mul', 'adv')
  terms = {'base': jnp.where(adv, 0.0, flow)}
  if kinds.adv:
    terms['adv'] = jnp.where(adv, flow, 0.0)
  if matching:
    gap = _twin_less_real(
      u, key_match, x_t - F, cond, matching_times, matching_clip
    )
    rectify = (
      matching / kinds.share('e2e') * regress(F, gap, loss, c, reduction)
    )
    terms['rectify'] = jnp.where(kind['e2e'], rectify, 0.0)
  total = sum(terms.values(), jnp.zeros_like(t))
  return total, {name: jnp.mean(term) for name, term in terms.items()}


def _own_samples(
  u: AverageVelocity, key: Array, like: Array, cond: Any
) -> Array:
  """x̂0 = z − F(z, 1, 0) in the shape of `like`, without gradient."""
  z = jax.random.normal(key, like.shape, like.dtype)
  one = jnp.ones(len(like), like.dtype)
  return jax.lax.stop_gradient(flow_map(u, z, one, 0 * one, cond))


def _twin_less_real(
  u: AverageVelocity,
  key: Array,
  x0: Array,
  cond: Any,
  times: TimeLaw,
  clip: float | None,
) -> Array:
  """clip(Δ) at x', which is x0 with noise added."""
  key_t, key_x = jax.random.split(key)
  t = times(key_t, len(x0))
  x = interpolate(x0, jax.random.normal(key_x, x0.shape, x0.dtype), t)
  gap = u(x, -t, -t, cond) - u(x, t, t, cond)
  return gap if clip is None else jnp.clip(gap, -clip, clip)


def _check_kinds(
  kinds: Kinds, recursion: Recursion, consistency_ratio: float, matching: float
) -> None:
  """Raises ValueError where a weight or an option would have no effect."""
  order, jumps = recursion.order, kinds.share('e2e', 'any', 'one')
  if order and not (jumps and consistency_ratio):
    raise ValueError(
      f'order = {order} must be 0 with consistency_ratio = 0, or if e2e, any '
      'and one of kinds are 0: there is no jump to learn'
    )
  flows = kinds.share('mul', 'adv')
  idle = kinds.any or kinds.one or (kinds.e2e and not matching)
  if not order and (idle or not flows):
    raise ValueError(
      'order = 0 must be at least 1 for e2e, any and one of kinds: without '
      'jumps, mul and adv are learnt, and e2e by matching alone'
    )
  low, high = recursion.enhanced_range
  inside = kinds.share('mul', 'any', 'one') or (kinds.e2e and low < 1 < high)
  ratio = recursion.enhanced_ratio
  if ratio and not inside:
    raise ValueError(
      f'enhanced_ratio = {ratio} must be 0 here: of kinds only mul, any and '
      'one have times in the enhanced_range'
    )


def _check_matching(
  kinds: Kinds, consistency_ratio: float, matching: float, clip: float | None
) -> None:
  if not matching >= 0:
    raise ValueError(f'matching = {matching} must be at least 0')
  if matching and (not (kinds.e2e and kinds.adv) or consistency_ratio < 1):
    raise ValueError(
      f'matching = {matching} must be 0 unless e2e and adv of kinds are above '
      '0 and consistency_ratio is 1: it moves e2e by what adv has learnt'
    )
  if clip is not None and not clip > 0:
    raise ValueError(
      f'matching_clip = {clip} must be above 0, or None for no clip'
    )
