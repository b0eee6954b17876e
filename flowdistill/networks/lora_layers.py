"""Layers with low-rank factors beside their kernel; see `lora.py`."""

import math
import types
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Array = jax.Array
FACTORS = LORA_A, LORA_B = 'lora_a', 'lora_b'
"""Names of A and B; they lie beside 'kernel' and 'bias' of their layer."""


class AdaptedLinear(nnx.Linear):
  """y = x W + bias + (α / r) drop(x) A B.

  Args:
    layer: the linear layer, or a stack of them, that it takes over.
    rank: r, at most the smaller width of the kernel.
    scale: α / r.
    dropout: rate of the masks of the inputs of A, in [0, 1).
    key: for A; B is 0.
  """

  def __init__(
    self,
    layer: nnx.Linear,
    *,
    rank: int,
    scale: float,
    dropout: float,
    key: Array,
  ):
    take_over(self, layer)
    self.lora_scale, self.lora_dropout = scale, dropout
    *stacked, n_in, n_out = layer.kernel.shape
    shape, axes = (*stacked, n_in, rank), tuple(range(len(stacked)))
    self.lora_a = nnx.LoRAParam(init_a(key, shape, axes))
    self.lora_b = nnx.LoRAParam(jnp.zeros((*stacked, rank, n_out)))

  def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
    """[..., n_in] -> [..., n_out]."""
    y = super().__call__(inputs, out_sharding)
    x, a, b = self.promote_dtype(
      (masked(self, inputs), self.lora_a[...], self.lora_b[...]),
      dtype=self.dtype,
    )
    return y + self.lora_scale * (x @ a) @ b


class AdaptedConv(nnx.Conv):
  """As `AdaptedLinear`, A being a convolution to r channels."""

  def __init__(
    self,
    layer: nnx.Conv,
    *,
    rank: int,
    scale: float,
    dropout: float,
    key: Array,
  ):
    take_over(self, layer)
    self.lora_scale, self.lora_dropout = scale, dropout
    *window, n_in, n_out = layer.kernel.shape
    self.lora_a = nnx.LoRAParam(init_a(key, (*window, n_in, rank)))
    self.lora_b = nnx.LoRAParam(jnp.zeros((rank, n_out)))

  def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
    """[b, ..., n_in] -> [b, ..., n_out]."""
    y = super().__call__(inputs, out_sharding)
    down: Any = types.SimpleNamespace(
      **{k: v for k, v in vars(self).items() if not k.startswith('_')}
    )
    down.kernel, down.bias, down.use_bias = self.lora_a, None, False
    h = nnx.Conv.__call__(down, masked(self, inputs))
    h, b = self.promote_dtype((h, self.lora_b[...]), dtype=self.dtype)
    return y + self.lora_scale * h @ b


Adapted = AdaptedLinear | AdaptedConv
KINDS: dict[type, Any] = {
  nnx.Linear: AdaptedLinear,
  nnx.Conv: AdaptedConv,
}
"""Class of a layer -> that of the same layer with factors."""


def why_not(layer: nnx.Module) -> str:
  """Why a layer can have no low-rank factors; '' if it can."""
  if type(layer) not in KINDS:
    return f'is of the class {type(layer).__name__}'
  if isinstance(layer, nnx.Conv) and layer.feature_group_count > 1:
    return f'has {layer.feature_group_count} groups of channels'
  return ''


def width_of(layer: Any) -> int:
  """The largest rank of an update: the smaller side of its kernel."""
  *outer, n_in, n_out = layer.kernel.shape
  window = math.prod(outer) if isinstance(layer, nnx.Conv) else 1
  return min(window * n_in, n_out)


def take_over(new: nnx.Module, layer: nnx.Module) -> None:
  """Gives all attributes of a layer, its arrays among them, to a new one."""
  for name, value in vars(layer).items():
    if not name.startswith('_'):
      setattr(new, name, nnx.data(None) if value is None else value)


def init_a(key: Array, shape: tuple[int, ...], stacked: Any = ()) -> Array:
  """Uniform in ±1/√n_in, of kernels [..., n_in, r].

  As in the reference implementation, https://github.com/microsoft/LoRA, whose
  Kaiming initialisation with a = √5 is this.
  """
  init = nnx.initializers.variance_scaling(
    1 / 3, 'fan_in', 'uniform', batch_axis=stacked
  )
  return init(key, shape, jnp.float32)


def give_key(layer: Any, key: Array) -> None:
  """Gives a layer the data of a key, [..., 2], for the masks of `masked`."""
  layer.lora_key = nnx.Variable(key)


def masked(layer: Any, x: Array) -> Array:
  """The inputs of A, with a dropout mask if the layer was given a key."""
  key = getattr(layer, 'lora_key', None)
  if key is None or not layer.lora_dropout:
    return x
  keep = 1 - layer.lora_dropout
  mask = jax.random.bernoulli(jax.random.wrap_key_data(key[...]), keep, x.shape)
  return jnp.where(mask, x / keep, 0)


def delta(layer: Adapted) -> Array:
  """(α / r) A B, float32 in the shape of the kernel."""
  a, b = layer.lora_a[...], layer.lora_b[...]
  return layer.lora_scale * jnp.matmul(a, b, precision='highest')
