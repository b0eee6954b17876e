"""A network with low-rank factors, abstractly, by the section `lora`."""

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from flowdistill.build.models import Make, Model
from flowdistill.config.bind import located, suggest
from flowdistill.config.sections import Lora
from flowdistill.networks.lora import adapt, is_factor, layers_of, named
from flowdistill.networks.lora_layers import why_not
from flowdistill.training.roles import Params

OPTIONS = ('layers', 'rank', 'full')  # with which messages begin


@dataclasses.dataclass(frozen=True)
class Adaptation:
  """A network, and how low-rank factors adapt it.

  Attributes:
    plain: the network without them.
    make: makes it.
    lora: the section of the config.
    key: () -> the random key of the factors A.
    where: key of the config.
  """

  plain: Model
  make: Make
  lora: Lora
  key: Callable[[], jax.Array]
  where: str

  def model(self) -> Model:
    """The adapted network, abstractly.

    Raises:
      ConfigError: for a pattern that matches nothing, a layer that cannot be
        adapted, or a rank above its width.
    """
    plain = self.plain
    with located(self.where, OPTIONS):
      module = nnx.eval_shape(self._adapted)
    graph, params, _ = nnx.split(module, self._learns, ...)
    return dataclasses.replace(plain, graph=graph, params=params, plain=plain)

  def init(self) -> Params:
    """The parameters that learn; those in `full` are fresh, too."""
    return nnx.split(self._adapted(), self._learns, ...)[1]

  def _adapted(self) -> nnx.Module:
    lora = self.lora
    return adapt(
      self.make(),
      rank=lora.rank,
      scale=lora.scale,
      dropout=lora.dropout,
      layers=self._chosen[0],
      key=self.key(),
    )

  def _learns(self, path: Any, _: Any) -> bool:
    return is_factor(path) or named(path) in self._chosen[1]

  @functools.cached_property
  def _chosen(self) -> tuple[set[str], set[str]]:
    """The names of the layers that are adapted, of the arrays that learn."""
    plain = self.plain
    layers = layers_of(nnx.merge(plain.graph, plain.params))
    can = [name for name, layer in layers.items() if not why_not(layer)]
    chosen = matching('layers', self.lora.layers, layers, can)
    for name in chosen:
      if why := why_not(layers[name]):
        raise ValueError(
          f'layers = {list(self.lora.layers)} must be linear layers and '
          f'convolutions: {name} {why}'
        )
    arrays = [named(path) for path, _ in nnx.to_flat_state(plain.params)]
    full = matching('full', self.lora.full, arrays, arrays)
    if both := [n for n in full if n.removesuffix('.kernel') in chosen]:
      raise ValueError(
        f'full = {list(self.lora.full)} must leave out {both[0]}, whose layer '
        'has low-rank factors'
      )
    return set(chosen), set(full)


def matching(
  option: str,
  patterns: Iterable[str],
  names: Iterable[str],
  choices: Iterable[str],
) -> list[str]:
  """The names that match one of the patterns.

  Raises:
    ValueError: for a pattern that matches none, with the nearest of `choices`.
  """
  found: list[str] = []
  for pattern in patterns:
    hits = fnmatch.filter(names, pattern)
    if not hits:
      raise ValueError(
        f'{option}: {pattern!r} must match something in this network; '
        f'{suggest(pattern, choices)}'
      )
    found += hits
  return list(dict.fromkeys(found))
