"""Embeddings of times and other scalars, in float32 at least, always."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.precision import wide

Array = jax.Array


def fourier_features(t: Array, size: int, *, max_frequency: float) -> Array:
  """cos and sin of t at `size / 2` frequencies, geometric in 1 .. max.

  Args:
    t: [b] in [−1, 1]: below 0 on a twin branch, which sin tells from above.
    size: of the answer, even.
    max_frequency: in radians per unit of time. It bounds du/dt, so a network
      that is differentiated in time wants tens, not thousands.

  Returns:
    [b, size], float32 at least.
  """
  t = wide(t)[:, None]
  exponents = jnp.linspace(0.0, 1.0, size // 2, dtype=t.dtype)
  angles = t * max_frequency**exponents
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nnx.Module):
  """Fourier features and two layers: t [b] -> [b, width].

  Args:
    width: of the answer.
    max_frequency: see `fourier_features`.
    zero: start at zero, as an input that has no effect until it is learnt.

  Raises:
    ValueError: if `width` is odd, or `max_frequency` not above 0.
  """

  def __init__(
    self,
    width: int,
    *,
    max_frequency: float,
    zero: bool = False,
    rngs: nnx.Rngs,
  ):
    if width % 2:
      raise ValueError(f'width = {width} must be even: half cos, half sin of t')
    if not max_frequency > 0:
      raise ValueError(f'max_frequency = {max_frequency} must be above 0')
    last = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    self.width, self.max_frequency = width, max_frequency
    self.first = nnx.Linear(width, width, rngs=rngs)
    self.second = nnx.Linear(width, width, kernel_init=last, rngs=rngs)

  def __call__(self, t: Array) -> Array:
    features = fourier_features(t, self.width, max_frequency=self.max_frequency)
    return self.second(nnx.silu(self.first(features)))


class TimePair(nnx.Module):
  """e(t, s) = e₁(t) + (t − s) e₂(s), with e₂ zero at initialisation.

  At s = t this is e₁(t), so a network keeps its velocity whatever e₂ becomes;
  and s has no effect until e₂ is learnt. The form is that of TwinFlow's
  Qwen-Image, "TwinFlow" (2025), https://arxiv.org/abs/2512.05150.
  """

  def __init__(self, width: int, *, max_frequency: float, rngs: nnx.Rngs):
    self.of_t = TimeEmbedding(width, max_frequency=max_frequency, rngs=rngs)
    self.of_s = TimeEmbedding(
      width, max_frequency=max_frequency, zero=True, rngs=rngs
    )

  def __call__(self, t: Array, s: Array) -> Array:
    t, s = wide(t), wide(s)
    return self.of_t(t) + (t - s)[:, None] * self.of_s(s)


class Scalars(nnx.Module):
  """Σᵢ eᵢ(cond[nameᵢ]), such as that of a guidance scale, zero at the start.

  Args:
    names: keys of `cond`, each of an array [b].
    width: of the answer.
    max_frequency: see `fourier_features`, here in radians per unit of scalar.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if a name is no word, comes twice, or is 'label', which has an
      embedding of its own; when called, if `cond` has no such array.
  """

  def __init__(
    self,
    names: Sequence[str],
    width: int,
    *,
    max_frequency: float,
    rngs: nnx.Rngs,
  ):
    words = all(isinstance(n, str) and n.isidentifier() for n in names)
    if not words or len(set(names)) < len(names) or 'label' in names:
      raise ValueError(
        f"scalars = {tuple(names)} must be different words, such as 'guidance';"
        " 'label' is none of them, it has an embedding of its own"
      )
    self.names = tuple(names)
    self.of = nnx.Dict(
      {
        name: TimeEmbedding(
          width, max_frequency=max_frequency, zero=True, rngs=rngs
        )
        for name in names
      }
    )

  def __call__(self, cond: Mapping[str, Array]) -> Array:
    """`cond[name]` [b] -> [b, width]."""
    embedded = [self.of[name](self._scalar(name, cond)) for name in self.names]
    return functools.reduce(operator.add, embedded)

  def _scalar(self, name: str, cond: Mapping[str, Array]) -> Array:
    if name not in cond:
      raise ValueError(
        f'cond has {sorted(cond)} and no {name!r}, which this network takes '
        f'(network.scalars = {self.names}): give cond[{name!r}], an array [b], '
        f'as an objective or a sampler with {name} does, or take {name!r} out '
        'of network.scalars'
      )
    if jnp.ndim(cond[name]) != 1:
      raise ValueError(
        f'cond[{name!r}] has shape {jnp.shape(cond[name])}; it must be [b], a '
        'number for each example'
      )
    return cond[name]


def make_label(
  num_classes: int, width: int, *, rngs: nnx.Rngs
) -> nnx.Embed | None:
  """The embedding of `cond['label']`, small; `num_classes` is the null label.

  Returns:
    None if there are no classes.
  """
  if not num_classes:
    return None
  normal = nnx.initializers.normal(0.02)
  return nnx.Embed(num_classes + 1, width, embedding_init=normal, rngs=rngs)


class OneHot(nnx.Module):
  """A vector for each class, of variance 1, and 0 for any other label."""

  def __init__(self, num_classes: int, width: int, *, rngs: nnx.Rngs):
    normal = nnx.initializers.normal(1.0)
    shape = (num_classes, width)
    self.kernel = nnx.Param(normal(rngs.params(), shape, jnp.float32))

  def __call__(self, label: Array) -> Array:
    """[b] -> [b, width]."""
    kernel = self.kernel[...]
    return jax.nn.one_hot(label, len(kernel), dtype=kernel.dtype) @ kernel


def make_scalars(
  names: Sequence[str], width: int, *, max_frequency: float, rngs: nnx.Rngs
) -> Scalars | None:
  """The `Scalars` of these names, None if there are none."""
  if not names:
    return None
  return Scalars(names, width, max_frequency=max_frequency, rngs=rngs)


def conditioned(
  e: Array,
  cond: Mapping[str, Array],
  *,
  label: Callable[[Array], Array] | None,
  scalars: Scalars | None,
) -> Array:
  """e [b, width], of the times, plus what a network embeds of `cond`."""
  if label is not None:
    e = e + label(cond['label'])
  if scalars is not None:
    e = e + scalars(cond)
  return e
