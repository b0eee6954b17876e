"""The options that all networks share, and the conditions that they take."""

import dataclasses
from collections.abc import Collection
from typing import ClassVar

from jax.typing import DTypeLike

from flowdistill.flow.spec import LABEL, DataSpec
from flowdistill.networks.attention import FORMS, FUSED, PLAIN
from flowdistill.networks.precision import BFLOAT16, PRODUCTS
from flowdistill.networks.ranges import check_choices
from flowdistill.networks.stack import REMAT


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
  """Options of every network; in a config they are keys of the network itself.

  Attributes:
    max_frequency: of the embeddings of times and scalars, in radians per unit.
      It bounds du/dt.
    dtype: of the large products, 'float32' or 'bfloat16'; everything else, the
      output included, is float32 (see `precision.py`).
    attention_form: of all attention: 'plain' stores the logits of all pairs of
      tokens; 'blockwise' takes memory that is linear in their number; 'fused',
      for products in bfloat16, is one kernel on a GPU and blockwise elsewhere,
      and has no jvp. Networks without attention ignore it.
    remat: what the backward pass rematerialises in each layer, to save memory:
      'dots', everything but the results of large products with parameters
      (convolutions are rematerialised too); 'full', everything; None disables
      rematerialisation.
    scalars: names of scalar conditions [b], such as 'guidance', that are
      embedded like times. They have no effect at initialisation.

  Raises:
    ValueError: if an option is out of range.
  """

  flat: ClassVar[bool] = True  # see config/bind.py
  max_frequency: float = 16.0
  dtype: str = 'float32'
  attention_form: str = PLAIN
  remat: str | None = None
  scalars: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    if not self.max_frequency > 0:
      raise ValueError(f'max_frequency = {self.max_frequency} must be above 0')
    check_choices(
      dtype=(self.dtype, sorted(PRODUCTS)),
      attention_form=(self.attention_form, tuple(FORMS)),
    )
    if self.attention_form == FUSED and self.dtype != BFLOAT16:
      raise ValueError(
        f'attention_form = {FUSED!r} must have dtype = {BFLOAT16!r}, not '
        f'{self.dtype!r}: the kernels have no other numbers'
      )
    if self.remat not in (None, *REMAT):
      choices = ', '.join(map(repr, REMAT))
      raise ValueError(
        f'remat = {self.remat!r} must be None or one of {choices}'
      )
    names = self.scalars
    words = all(isinstance(n, str) and n.isidentifier() for n in names)
    if not words or len(set(names)) < len(names) or LABEL in names:
      raise ValueError(
        f"scalars = {tuple(names)} must be different words, such as 'guidance'"
        f', and none of them {LABEL!r}, which has an embedding of its own'
      )

  @property
  def products(self) -> DTypeLike | None:
    """The `dtype` of the layers that compute the large products."""
    return PRODUCTS[self.dtype]

  def check_conditions(
    self, spec: DataSpec, network: str, takes: Collection[str] = ()
  ) -> None:
    """Checks that a network takes every condition of a spec.

    Args:
      spec: of the data.
      network: its name, for the message.
      takes: names of conditions that it takes besides `label` and `scalars`.

    Raises:
      ValueError: naming the first condition that it does not take, or that is
        among `scalars` and no scalar.
    """
    for name, condition in spec.cond.items():
      shape, scalar = list(condition.shape), name in self.scalars
      if scalar and shape:
        raise ValueError(
          f'scalars = {tuple(self.scalars)} must name scalar conditions; '
          f'{name!r} has shape {shape}'
        )
      if scalar or name in (LABEL, *takes):
        continue
      known = ', '.join(map(repr, (LABEL, *takes)))
      hint = '' if shape else f'; to embed it, add {name!r} to scalars'
      raise ValueError(
        f'{network} takes no condition {name!r}; it takes {known} and the '
        f'scalars that it is configured with{hint}'
      )


DEFAULTS = NetworkOptions()
