"""Counts the work of a function: matrix products and convolutions, in a jaxpr.

The jaxpr is counted as it is traced, whether an output needs a product or not.
That is what runs: linearising a function drops the tangents that
`stop_gradient` cuts off, so the traced gradient of an objective has nothing
dead in it, and if it ever had, the count would be too high, never too low.
(XLA's own count takes the body of a loop once.)
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax


class UnknownLength(ValueError):
  """A loop runs as often as its numbers say, which a jaxpr does not know."""


PRODUCT, CONVOLUTION = 'dot_general', 'conv_general_dilated'
WORK = (PRODUCT, CONVOLUTION)


def flops(f: Callable[..., Any], *args: Any, of: tuple[str, ...] = WORK) -> int:
  """Floating point operations in the products and convolutions of f(*args).

  The body of a scan counts as often as it runs, of the branches of a cond the
  dearest counts.

  Args:
    f: a function that JAX can trace.
    *args: of it, arrays or their shapes.
    of: what is counted, PRODUCT, CONVOLUTION or both.

  Raises:
    UnknownLength: for a while loop with such an operation in it.
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
      raise UnknownLength('the length of a while loop is not in its jaxpr')
  return sum(counts)


def _summed(eqn: Any) -> list[int]:
  """The sizes of the axes that a product or a convolution sums over."""
  if eqn.primitive.name == PRODUCT:
    ((summed, _), _) = eqn.params['dimension_numbers']
    return [eqn.invars[0].aval.shape[i] for i in summed]
  kernel = list(eqn.invars[1].aval.shape)
  del kernel[eqn.params['dimension_numbers'].rhs_spec[0]]  # output channels
  return kernel


def _twice(out: Any, summed: Iterable[int]) -> int:
  return 2 * math.prod(out.aval.shape) * math.prod(summed)


def bodies(values: Iterable[Any]) -> list[Any]:
  """The jaxprs among the parameters of an equation, tuples opened."""
  found = []
  for value in values:
    if isinstance(value, tuple | list):
      found += bodies(value)
    elif hasattr(value, 'eqns'):
      found.append(value)
  return found
