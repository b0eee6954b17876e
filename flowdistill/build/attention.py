"""Which form of attention a network has, and whether it has a jvp."""

from flowdistill.config.bind import Spec
from flowdistill.networks.attention import BLOCKWISE, FORMS, FUSED

OPTION = 'attention_form'
DIFFERENTIABLE = tuple(form for form in FORMS if form != FUSED)
"""Forms of attention with a jvp."""


def has_jvp(network: Spec) -> bool:
  """Whether the attention of a network has a jvp."""
  return network.get(OPTION) != FUSED


def with_jvp(network: Spec) -> dict[str, str]:
  """The options to change for attention that has a jvp, in linear memory."""
  return {} if has_jvp(network) else {OPTION: BLOCKWISE}
