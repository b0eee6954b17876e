"""What a user gives to a network: labels, other conditions, examples.

Whatever cannot be meant is refused by name, before any device is used.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from flowdistill.config.bind import suggest
from flowdistill.flow.spec import LABEL, Condition, DataSpec

UNUSUAL = 10.0  # beyond it no picture in [−1, 1], and no sample of a network


def check_conditions(
  spec: DataSpec, n: int, given: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Conditions of n examples, name -> [n, *shape] in the dtype of the spec.

  Args:
    spec: of the examples.
    n: their number.
    given: name -> one value for all, or n values.

  Raises:
    ValueError: if a condition does not exist, or has another shape, or values
      that it cannot have.
  """
  if unknown := [name for name in given if name not in spec.cond]:
    if unknown[0] == LABEL:
      check_label(spec, given[LABEL])
    raise ValueError(
      f'cond has {unknown[0]!r}: these examples are {spec}; '
      f'{suggest(unknown[0], spec.cond)}'
    )
  return {
    name: _rows(
      name,
      spec.cond[name],
      n,
      check_label(spec, value)
      if name == LABEL
      else _values(name, spec.cond[name], value),
    )
    for name, value in given.items()
  }


def check_label(spec: DataSpec, label: Any) -> np.ndarray:
  """The label or labels, which must be classes of the data set."""
  classes = spec.num_classes
  if not classes:
    raise ValueError(
      f'label = {label} has no effect: this data set has no classes'
    )
  labels, bad = _array(LABEL, label), label
  whole = labels.dtype.kind in 'iu'
  if whole:
    outside = labels[(labels < 0) | (labels > classes)]
    bad = outside.flat[0] if outside.size else None
  if not whole or bad is not None:
    raise ValueError(
      f'label = {bad} must be an integer in 0 to {classes - 1}, or {classes} '
      'for "no class"'
    )
  return labels


def check_examples(shape: tuple[int, ...], x0: Any) -> np.ndarray:
  """Examples of the data, float32 [n, *shape].

  Raises:
    ValueError: for another shape or dtype, values that are not finite, or
      pictures far outside of [−1, 1].
  """
  x = _array('x0', x0)
  pictures = len(shape) == 3 and shape[-1] in (1, 3)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    how = ', pictures in [-1, 1]: x0 / 127.5 - 1' if pictures else ''
    raise ValueError(
      f'x0 has the dtype {x.dtype}; it must be float in the range of the '
      f'data{how}'
    )
  if x.ndim != len(shape) + 1 or x.shape[1:] != shape or not len(x):
    raise ValueError(
      f'x0 has the shape {[*x.shape]}; it must be {["n", *shape]} with n of '
      f'at least 1{_mended(x.shape, shape)}'.replace("'n'", 'n')
    )
  x = _as_float32('x0', x)
  least, most = float(x.min()), float(x.max())
  if pictures and (most > (2.0 if least >= 0 else UNUSUAL) or least < -UNUSUAL):
    raise ValueError(
      f'x0 lies in [{least:.4g}, {most:.4g}]; pictures must lie in [-1, 1], '
      'which is x0 / 127.5 - 1 if these are in [0, 255]'
    )
  return x


def _mended(given: tuple[int, ...], shape: tuple[int, ...]) -> str:
  if given == shape:
    return ': for one example, x0[None]'
  if len(shape) == 3 and given[1:] == (shape[-1], *shape[:-1]):
    return ': with the channels last, np.moveaxis(x0, 1, -1)'
  return ''


def _array(name: str, value: Any) -> np.ndarray:
  try:
    return np.asarray(value)
  except (ValueError, TypeError, OverflowError) as error:
    raise ValueError(f'{name} must be an array: {error}') from error


def _values(name: str, condition: Condition, value: Any) -> np.ndarray:
  """The array in the dtype of the condition, its values unchanged."""
  array, dtype = _array(name, value), np.dtype(condition.dtype)
  floats = jnp.issubdtype(array.dtype, jnp.floating)
  if array.dtype.kind not in 'biu' and not floats:
    raise ValueError(
      f'cond[{name!r}] has the dtype {array.dtype}; it must be {dtype}'
    )
  if jnp.issubdtype(dtype, jnp.floating):
    return _as_float32(f'cond[{name!r}]', array).astype(dtype)
  with np.errstate(invalid='ignore'):
    cast = array.astype(dtype)
  if not np.array_equal(cast, array):
    raise ValueError(
      f'cond[{name!r}] must be {dtype}: it has values that are none, such as '
      f'{array[cast != array].flat[0]}'
    )
  return cast


def _rows(
  name: str, condition: Condition, n: int, values: np.ndarray
) -> np.ndarray:
  """One value for all, or n values, as a view [n, *shape]."""
  shape = (n, *condition.shape)
  if values.shape not in (condition.shape, shape):
    known = name if name == LABEL else f'cond[{name!r}]'
    raise ValueError(
      f'{known} has the shape {[*values.shape]}; it must be '
      f'{[*condition.shape]}, or {[*shape]} for n = {n} examples'
    )
  return np.broadcast_to(values.astype(condition.dtype), shape)


def _as_float32(name: str, array: np.ndarray) -> np.ndarray:
  with np.errstate(over='ignore'):
    cast = array.astype(np.float32)
  if not np.isfinite(cast).all():
    raise ValueError(
      f'{name} must be finite: it has values that are no finite float32'
    )
  return cast
