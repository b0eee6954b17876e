"""A metric as a row of the table METRICS."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

Needs = Literal['moments', 'features', 'logits', 'spatial', 'pairs']
OF_INCEPTION = {
  'frechet': 'fid',
  'spatial_frechet': 'sfid',
  'kernel': 'kid',
  'kernel_error': 'kid_error',
}
"""Figure -> what it is called, if the network is that of FID."""


@dataclasses.dataclass(frozen=True)
class Metric:
  """How a figure is computed, and what from.

  Attributes:
    function: f(samples, reference, *, options) -> figures by name. 'logits' has
      no reference; of 'pairs' the reference are the embeddings of the captions.
    needs: what it takes of each example: 'moments' and 'spatial' are `Moments`
      of features [n, d], of the last layer or of a spatial one; 'features' and
      'logits' are arrays [n, d]; 'pairs' are the embeddings of two towers.
    better: whether lower or higher is better.
    least: f(**options) -> number of samples that it takes at least.
    source: the paper.
    name: in METRICS, once its options are bound.
    given: its options, bound.
    defaults: of its options.
  """

  function: Callable[..., dict[str, float]]
  needs: Needs
  better: Literal['lower', 'higher']
  least: Callable[..., int]
  source: str
  name: str = ''
  given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def options(self) -> dict[str, Any]:
    """Its options with their defaults."""
    parameters = inspect.signature(self.function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

  @property
  def title(self) -> str:
    """'precision_recall', or 'precision_recall k=5' with other options."""
    other = [
      f'{name}={value}'
      for name, value in self.given.items()
      if value != self.defaults.get(name)
    ]
    return ' '.join([self.name, *other])


def figure_name(figure: str, network: str) -> str:
  """What a figure over the features of a network is called in a row.

  'frechet' is 'fid' for the network 'inception', and 'frechet_digits' for
  'digits': FID is what is computed with the network of FID, and nothing else.
  """
  if network == 'inception':
    return OF_INCEPTION.get(figure, figure)
  return f'{figure}_{network}'
