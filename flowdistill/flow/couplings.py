"""Which noise goes with which image: `coupling(key, batch) -> (x0, x1)`."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax

Array = jax.Array


class Coupling(Protocol):
  """coupling(key, batch) -> (x0 [b, ...], x1 [b, ...])."""

  def __call__(
    self, key: Array, batch: Mapping[str, Any], /
  ) -> tuple[Array, Array]: ...


def independent(key: Array, batch: Mapping[str, Any]) -> tuple[Array, Array]:
  """Fresh standard normal noise for every example."""
  x0 = batch['x0']
  return x0, jax.random.normal(key, x0.shape, x0.dtype)


def paired(key: Array, batch: Mapping[str, Any]) -> tuple[Array, Array]:
  """The noise that the batch brings along, as reflow has it.

  Raises:
    ValueError: if the batch has no `x1`.
  """
  del key
  if 'x1' not in batch:
    raise ValueError(
      "the coupling 'paired' needs batches with 'x1', this one has "
      f"{sorted(batch)}: use a data set of pairs, or the coupling 'independent'"
    )
  return batch['x0'], batch['x1']


COUPLINGS = {'independent': independent, 'paired': paired}
