"""Embeddings of times, scalars and labels, always in float32 or float64."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.precision import upcast

Array = jax.Array


def fourier_features(t: Array, size: int, *, max_frequency: float) -> Array:
  """cos and sin of t at `size / 2` frequencies, geometric in 1 .. max.

  Args:
    t: [b] in [−1, 1]; negative times are those of TwinFlow's twin branch,
      which sin tells from positive ones.
    size: number of features, even.
    max_frequency: in radians per unit of time. It bounds du/dt, so a network
      that is differentiated in time wants tens, not thousands.

  Returns:
    [b, size], float32, or float64 for such a t.
  """
  t = upcast(t)[:, None]
  exponents = jnp.linspace(0.0, 1.0, size // 2, dtype=t.dtype)
  angles = t * max_frequency**exponents
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nnx.Module):
  """Fourier features and two layers: t [b] -> [b, width].

  Args:
    width: of the embedding.
    max_frequency: see `fourier_features`.
    zero: whether it is zero at initialisation.

  Raises:
    ValueError: if `width` is odd.
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
    last = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    self.width, self.max_frequency = width, max_frequency
    self.first = nnx.Linear(width, width, rngs=rngs)
    self.second = nnx.Linear(width, width, kernel_init=last, rngs=rngs)

  def __call__(self, t: Array) -> Array:
    features = fourier_features(t, self.width, max_frequency=self.max_frequency)
    return self.second(nnx.silu(self.first(features)))


class TimePair(nnx.Module):
  """e(t, s) = e₁(t) + (t − s) e₂(s), with e₂ zero at initialisation.

  At s = t this is e₁(t), so the velocity does not depend on e₂; and s has no
  effect at initialisation. The form is that of TwinFlow's Qwen-Image,
  "TwinFlow" (2025), https://arxiv.org/abs/2512.05150.
  """

  def __init__(self, width: int, *, max_frequency: float, rngs: nnx.Rngs):
    self.of_t = TimeEmbedding(width, max_frequency=max_frequency, rngs=rngs)
    self.of_s = TimeEmbedding(
      width, max_frequency=max_frequency, zero=True, rngs=rngs
    )

  def __call__(self, t: Array, s: Array) -> Array:
    t, s = upcast(t), upcast(s)
    return self.of_t(t) + (t - s)[:, None] * self.of_s(s)


class Scalars(nnx.Module):
  """Σᵢ eᵢ(cond[nameᵢ]), such as a guidance scale's; zero at initialisation.

  Args:
    names: keys of `cond`, each of an array [b].
    width: of the embedding.
    max_frequency: see `fourier_features`, here in radians per unit of scalar.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: when called, if `cond` has no such array.
  """

  def __init__(
    self,
    names: Sequence[str],
    width: int,
    *,
    max_frequency: float,
    rngs: nnx.Rngs,
  ):
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
  """The embedding of `cond['label']`, None without classes.

  Label `num_classes` is the null label; entries start with deviation 0.02.
  """
  if not num_classes:
    return None
  normal = nnx.initializers.normal(0.02)
  return nnx.Embed(num_classes + 1, width, embedding_init=normal, rngs=rngs)


class OneHot(nnx.Module):
  """A vector of variance 1 for each class, and 0 for any other label."""

  def __init__(self, num_classes: int, width: int, *, rngs: nnx.Rngs):
    normal = nnx.initializers.normal(1.0)
    shape = (num_classes, width)
    self.kernel = nnx.Param(normal(rngs.params(), shape, jnp.float32))

  def __call__(self, label: Array) -> Array:
    """[b] -> [b, width]."""
    kernel = self.kernel[...]
    return jax.nn.one_hot(label, len(kernel), dtype=kernel.dtype) @ kernel


class ScaledOneHot(nnx.Module):
  """A product with √classes times the one-hot label; a bias for any other."""

  def __init__(self, num_classes: int, width: int, *, rngs: nnx.Rngs):
    self.num_classes = num_classes
    self.linear = nnx.Linear(num_classes, width, rngs=rngs)

  def __call__(self, label: Array) -> Array:
    """[b] -> [b, width]."""
    kernel = self.linear.kernel[...]
    one_hot = jax.nn.one_hot(label, self.num_classes, dtype=kernel.dtype)
    return self.linear(one_hot * self.num_classes**0.5)


def make_scalars(
  options: NetworkOptions, width: int, *, rngs: nnx.Rngs
) -> Scalars | None:
  """The embedding of `options.scalars`, None if there are none."""
  if not options.scalars:
    return None
  return Scalars(
    options.scalars, width, max_frequency=options.max_frequency, rngs=rngs
  )


def conditioned(
  e: Array,
  cond: Mapping[str, Array],
  *,
  label: Callable[[Array], Array] | None,
  scalars: Scalars | None,
) -> Array:
  """The times' embedding e [b, width] plus those of label and scalars."""
  if label is not None:
    e = e + label(cond['label'])
  if scalars is not None:
    e = e + scalars(cond)
  return e
