"""The weights that a reference names, abstractly."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax

from flowdistill.build.ema_snapshots import check_reconstruction, resolved
from flowdistill.build.models import Model
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sections import Reference
from flowdistill.training.roles import AVERAGE, VELOCITY, Params, Role
from flowdistill.training.rounding import cast
from flowdistill.training.state import MAIN


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
  """A network and its weights, abstractly.

  Attributes:
    reference: of the config.
    model: the network.
    params: abstract, in the dtype of the reference.
    stage: the blueprint of the stage that trained it; None for a file.
    published: the folder of diffusers that it is read from, see `published.py`;
      None for others.
  """

  reference: Reference
  model: Model
  params: Params
  stage: Any = None
  published: Any = None


def weights_of(stage: Any, reference: Reference) -> tuple[str | float, Params]:
  """The name and the weights of a stage's role that a reference names.

  Of an EMA that is to be reconstructed it is its σ_rel in place of a name.
  """
  state = stage.state.roles[reference.role]
  try:
    name = resolved(stage, reference.role, reference.weights)
  except ValueError as error:
    raise ConfigError(f'{reference.source}: {error}') from error
  if isinstance(name, float):
    return name, in_dtype(state.params, Reference(reference.source))
  if name == 'params' or (name == 'ema' and not state.emas):
    return 'params', state.params
  name = MAIN if name == 'ema' else name
  if name not in state.emas:
    choices = ['ema', 'params', *state.emas]
    raise ConfigError(
      f'{reference.source} has no weights {name!r}; {suggest(name, choices)}'
    )
  return name, state.emas[name]


def check_idle(
  reference: Reference, key: str, names: Iterable[str], why: str
) -> None:
  """Refuses options of a reference that are not at their defaults.

  Raises:
    ConfigError: naming the first that has no effect, and why.
  """
  for name in names:
    value = getattr(reference, name)
    if value != getattr(Reference, name):
      raise ConfigError(f'config.{key}.{name} = {value!r} has no effect{why}')


def changes_of(reference: Reference) -> dict[str, str]:
  """The options of a network that a reference changes."""
  changes = {'attention_form': reference.attention_form}
  if reference.dtype != Reference.dtype:
    changes['dtype'] = reference.dtype
  return {name: value for name, value in changes.items() if value is not None}


def in_dtype(params: Params, reference: Reference) -> Params:
  """Abstract weights in the dtype of a reference."""
  return jax.eval_shape(lambda x: cast(x, reference.dtype), params)


def weights_in_stage(reference: Reference, stage: Any) -> Weights:
  """The weights that a stage will have when it is trained; LoRA is merged.

  Raises:
    ConfigError: if the stage trains no such role, or tracks no such EMA and
      keeps too few snapshots to reconstruct it.
  """
  role = reference.role
  if role not in stage.learns:
    raise ConfigError(
      f'{reference.source} trains no role {role!r}; '
      f'{suggest(role, stage.learns)}'
    )
  name, params = weights_of(stage, reference)
  if isinstance(name, float):
    spelled = f'{reference.source}: weights = {reference.weights!r}'
    check_reconstruction(stage, role, name, spelled)
  # Its frozen roles need not exist.
  model = stage.plain(role, **changes_of(reference))
  if stage.learners[role].base is not None:
    params = model.params  # merged
  return Weights(reference, model, in_dtype(params, reference), stage)


def frozen_role(weights: Weights, base: str) -> Role:
  """The row of a frozen network: an average velocity is called at s = t."""
  signature = weights.model.signature
  return Role(
    model=weights.model,
    signature=VELOCITY if signature == AVERAGE else signature,
    weights=weights.reference,
    base=base,
  )
