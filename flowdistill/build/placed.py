"""A feature network on the devices of a mesh."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from flowdistill.evaluators.signature import Described
from flowdistill.training.sharding import Layout


class Network(Described, Protocol):
  """A feature network.

  `prepare` runs on the host that has the rows, `apply` on the device.
  """

  @property
  def batch(self) -> int: ...
  @property
  def params(self) -> Any: ...
  def check(self, shape: tuple[int, ...], /) -> None: ...
  def prepare(self, x: np.ndarray, /) -> np.ndarray: ...
  def apply(self, params: Any, x: jax.Array, /) -> dict[str, jax.Array]: ...


@dataclasses.dataclass(frozen=True)
class Placed:
  """A feature network on devices: x [n, ...] -> kind -> float32 [n, width].

  Each host prepares the rows of its own devices; all of them get all features.

  Attributes:
    network: the network.
    layout: of the devices.
  """

  network: Network
  layout: Layout

  @property
  def name(self) -> str:
    """Of the network."""
    return self.network.name

  @property
  def about(self) -> Mapping[str, str]:
    """Of the network."""
    return self.network.about

  @property
  def kinds(self) -> tuple[str, ...]:
    """Of the network."""
    return self.network.kinds

  def length_of(self, kind: str) -> int:
    """Of the network."""
    return self.network.length_of(kind)

  @functools.cached_property
  def _apply(self) -> Callable[[Any], dict[str, jax.Array]]:
    everywhere = self.layout.replicated
    params = jax.device_put(self.network.params, everywhere)
    apply = jax.jit(self.network.apply)
    return lambda x: apply(params, x)

  def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """Batch by batch; the last of several is filled, and shares their program.

    Raises:
      ValueError: if the network cannot take such examples.
    """
    rows = self.layout.round_up(1) * self.network.batch
    rows = min(rows, self.layout.round_up(len(x)))
    parts: list[dict[str, np.ndarray]] = []
    for i in range(0, len(x), rows):
      part = x[i : i + rows]
      index = np.minimum(np.arange(rows), len(part) - 1)
      found = self._apply(
        self.layout.rows_from(
          rows, lambda s, p=part, k=index: self.network.prepare(p[k[s]])
        )
      )
      parts.append(
        {n: self.layout.collect(f)[: len(part)] for n, f in found.items()}
      )
    return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}

  def text(self, captions: Sequence[str]) -> np.ndarray:
    """Captions -> embeddings [n, d]; only where `kinds` has pairs."""
    network: Any = self.network
    return network.text(captions)


def batched(
  function: Callable[[np.ndarray], jax.Array], x: np.ndarray, rows: int
) -> np.ndarray:
  """function(x [n, ...]) [n, ...], on batches of one size."""
  parts = []
  for i in range(0, len(x), rows):
    index = np.minimum(np.arange(i, i + rows), len(x) - 1)
    parts.append(np.asarray(function(x[index]))[: len(x) - i])
  return np.concatenate(parts)
