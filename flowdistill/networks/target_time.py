"""The times (t, s) of pretrained text-to-image transformers, as one embedding.

FLUX.1 and SD3 embed t by two layers of the cos and sin of 1000 ω t, for 128
frequencies ω = 1 .. 10⁻⁴ without the last: e(t). A network of two times adds s:

  None        e(t), a velocity: s is ignored
  scaled_gap  e(t) + (t − s) e₂(s): at s = t it is e(t), whatever e₂ is
  sum         e(t) + e₂(s): at s = t it is e(t) while e₂ = 0
  gated       (1 − g) e(t) + g e₂(t − s)
  midpoint    e(t − (t − s) / 2), without an e₂

All is computed in float32 or float64: a time that is rounded to bfloat16 has
128 values between 1/2 and 1.

Source of the forms: "TwinFlow" (2025), https://arxiv.org/abs/2512.05150; FLUX.3
in diffusers, option flow_map; "AnyFlow" (2026), https://arxiv.org/abs/2605.13724,
with its deltatime_type t-r. Of the sinusoids: Esser et al., "Scaling Rectified
Flow Transformers for High-Resolution Image Synthesis" (2024),
https://arxiv.org/abs/2403.03206, as they are in diffusers.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flowdistill.networks.precision import upcast
from flowdistill.networks.ranges import check_choices

Array = jax.Array
FORMS = ('scaled_gap', 'sum', 'gated', 'midpoint')
ONE_EMBEDDER = (None, 'midpoint')
SECONDS = ('zero', 'copied', 'fresh')
FEATURES = 256
SCALE, SPAN = 1000.0, 1e4
# With the logarithms that published networks are used with, in float32: at
# 3500, a guidance scale of 3.5, it matters.
LOGARITHMS = np.float32(-np.log(SPAN)) * np.arange(128, dtype=np.float32) / 128
FREQUENCIES = np.exp(LOGARITHMS.astype(np.float64)).astype(np.float32)
FIRST, SECOND = 'of_t', 'of_s'


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeOptions:
  """The times of a network; in a config they are keys of the network itself.

  Attributes:
    target_time: the form of the embedding of (t, s), one of `FORMS`; None is a
      network of t alone, which answers a velocity.
    second: e₂ at initialisation: 'zero', 'copied' from e, also where only e is
      read from other weights, or 'fresh'.
    gate: g of 'gated', in (0, 1).
    sign: whether e embeds |t|, with a learned vector for t < 0 that is zero at
      initialisation, and e₂(s) likewise |s|. Otherwise −t differs from t in the
      sign of the sines.

  Raises:
    ValueError: if an option is out of range or has no effect.
  """

  flat: ClassVar[bool] = True  # see config/bind.py
  target_time: str | None = None
  second: str = 'zero'
  gate: float = 0.25
  sign: bool = False

  def __post_init__(self) -> None:
    if self.target_time is not None and self.target_time not in FORMS:
      words = ', '.join(map(repr, FORMS))
      raise ValueError(
        f'target_time = {self.target_time!r} must be None or one of {words}'
      )
    check_choices(second=(self.second, SECONDS))
    if not 0 < self.gate < 1:
      raise ValueError(f'gate = {self.gate} must lie in (0, 1)')
    form = f'with target_time = {self.target_time!r}'
    if self.second != TimeOptions.second and self.target_time in ONE_EMBEDDER:
      raise ValueError(
        f'second = {self.second!r} has no effect {form}: no e₂ embeds s'
      )
    if self.gate != TimeOptions.gate and self.target_time != 'gated':
      raise ValueError(f'gate = {self.gate} has no effect {form}')

  @property
  def signature(self) -> str:
    """What the network answers: 'velocity', or with a second time 'average'."""
    return 'velocity' if self.target_time is None else 'average'

  @property
  def derive(self) -> Callable[[Any, Collection[str]], Any] | None:
    """What completes loaded parameters: `copy_first`, or None for nothing."""
    return copy_first if self.second == 'copied' else None


ONE_TIME = TimeOptions()


class TargetTime(nnx.Module):
  """t, s [b] -> [b, width].

  Args:
    width: of the embedding.
    options: the form.
    rngs: for the initial parameters alone.
  """

  def __init__(self, width: int, options: TimeOptions, *, rngs: nnx.Rngs):
    self.form, self.gate = options.target_time, options.gate
    self.of_t = Embedder(FEATURES, width, rngs=rngs)
    self.of_s = make_second(self.of_t, width, options, rngs=rngs)
    self.sign = nnx.Param(jnp.zeros(width)) if options.sign else None

  def __call__(self, t: Array, s: Array) -> Array:
    t, s = upcast(t), upcast(s)
    if self.form == 'midpoint':
      t = t - (t - s) / 2
    e = self.embed(self.of_t, t)
    if self.sign is not None:
      e = e + jnp.where((t < 0)[:, None], self.sign[...], 0)
    if self.of_s is None:
      return e
    if self.form == 'gated':
      return (1 - self.gate) * e + self.gate * self.of_s(sinusoid(t - s))
    second = self.embed(self.of_s, s)
    return e + ((t - s)[:, None] * second if self.form != 'sum' else second)

  def embed(self, embedder: 'Embedder', t: Array) -> Array:
    """e(t), or e(|t|) if a learned vector says the sign, [b] -> [b, width]."""
    if self.sign is not None:
      t = jnp.where(t < 0, -t, t)  # unlike |t| it has a derivative at 0
    return embedder(sinusoid(t))


def make_second(
  first: 'Embedder', width: int, options: TimeOptions, *, rngs: nnx.Rngs
) -> 'Embedder | None':
  """e₂ beside e, None for a form without one."""
  if options.target_time in ONE_EMBEDDER:
    return None
  zero = options.second == 'zero'
  second = Embedder(FEATURES, width, zero=zero, rngs=rngs)
  if options.second == 'copied':
    nnx.update(second, jax.tree.map(jnp.copy, nnx.state(first)))
  return second


class Embedder(nnx.Module):
  """Two layers with a SiLU between them, [b, n] -> [b, width].

  Args:
    size: n.
    width: of the result.
    zero: whether it is zero at initialisation.
    rngs: for the initial parameters alone.
  """

  def __init__(
    self, size: int, width: int, *, zero: bool = False, rngs: nnx.Rngs
  ):
    last = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    self.first = nnx.Linear(size, width, rngs=rngs)
    self.second = nnx.Linear(width, width, kernel_init=last, rngs=rngs)

  def __call__(self, x: Array) -> Array:
    return self.second(nnx.silu(self.first(upcast(x))))


def sinusoid(t: Array) -> Array:
  """cos and sin of 1000 ω t, [b] -> [b, FEATURES], float32 or float64."""
  t = upcast(t)
  angles = (SCALE * t)[:, None] * FREQUENCIES.astype(t.dtype)
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def copy_first(params: Any, taken: Collection[str]) -> Any:
  """Parameters whose e₂ is e, except for arrays that were loaded.

  Args:
    params: of a network with a `TargetTime`.
    taken: names of the arrays that come from other weights, such as
      'times.of_s.first.kernel'.
  """
  flat = dict(nnx.to_flat_state(params))
  for path, leaf in flat.items():
    if SECOND in path and '.'.join(map(str, path)) not in taken:
      first = tuple(FIRST if part == SECOND else part for part in path)
      if first in flat:  # low-rank factors may be of one of them alone
        flat[path] = leaf.replace(jnp.copy(flat[first].get_value()))
  return nnx.from_flat_state(flat)
