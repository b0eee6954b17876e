"""Counts the FLOPs of a function: matrix products and convolutions, in a jaxpr.

The jaxpr is counted as traced, whether or not an output depends on a product.
That is what runs: linearisation drops the tangents that `stop_gradient` cuts
off, so the traced gradient of an objective contains no dead code; if it ever
did, the count would be too high, never too low. (XLA's own count takes the body
of a loop once.)
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax


class UnknownLength(ValueError):
  """The number of iterations of a loop depends on values."""


PRODUCT, CONVOLUTION = 'dot_general', 'conv_general_dilated'
WORK = (PRODUCT, CONVOLUTION)


def flops(f: Callable[..., Any], *args: Any, of: tuple[str, ...] = WORK) -> int:
  """Floating point operations in the products and convolutions of f(*args).

  The body of a scan counts once per iteration; of the branches of a cond, the
  most expensive one counts.

  Args:
    f: a function that JAX can trace.
    *args: of it, arrays or `jax.ShapeDtypeStruct`s.
    of: the operations to count, PRODUCT, CONVOLUTION or both.

  Raises:
    UnknownLength: for a while loop that contains such an operation.
  """
  return _count(jax.make_jaxpr(f)(*args), of)


def _count(jaxpr: Any, of: tuple[str, ...]) -> int:
  return sum(_count_equation(eqn, of) for eqn in jaxpr.eqns)


def _count_equation(eqn: Any, of: tuple[str, ...]) -> int:
  name = eqn.primitive.name
  if name in WORK:
    return _twice(eqn.outvars[0], _summed(eqn)) if name in of else 0
  counts = [_count(body, of) for body in bodies(eqn.params.values())]
  match eqn.primitive.name:
    case 'cond':
      return max(counts)
    case 'scan':
      return eqn.params['length'] * sum(counts)
    case 'while' if any(counts):
      raise UnknownLength('the length of a while loop is unknown when traced')
  return sum(counts)


def _summed(eqn: Any) -> list[int]:
  """Sizes of the axes over which a product or a convolution sums."""
  if eqn.primitive.name == PRODUCT:
    ((summed, _), _) = eqn.params['dimension_numbers']
    return [eqn.invars[0].aval.shape[i] for i in summed]
  kernel = list(eqn.invars[1].aval.shape)
  del kernel[eqn.params['dimension_numbers'].rhs_spec[0]]  # output channels
  return kernel


def _twice(out: Any, summed: Iterable[int]) -> int:
  return 2 * math.prod(out.aval.shape) * math.prod(summed)


def bodies(values: Iterable[Any]) -> list[Any]:
  """The jaxprs among the parameters of an equation, also within tuples."""
  jaxprs = []
  for value in values:
    if isinstance(value, tuple | list):
      jaxprs += bodies(value)
    elif hasattr(value, 'eqns'):
      jaxprs.append(value)
  return jaxprs
