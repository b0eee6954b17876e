"""Whether the weights that a role starts from are what it can start from."""

import fnmatch
from collections.abc import Mapping
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.unshaped import check_unshaped
from flowdistill.build.weights import Weights, changes_of
from flowdistill.config.bind import ConfigError
from flowdistill.stages.check_fit import check_same_shapes, check_same_text
from flowdistill.training.named_arrays import by_name
from flowdistill.workdir.weights import matching


def check_start(blueprint: Blueprint, role: str) -> None:
  """The weights of `init_from` must fit the network of the role."""
  if blueprint.stage.learners[role].init_from is None:
    return
  reference, key = blueprint.reference(role)
  model = blueprint.learners[role].model
  for name in [*changes_of(reference), *['offload'] * reference.offload]:
    of_base = name in ('dtype', 'offload')
    if of_base and model.plain is not None:
      continue
    also = ', and without lora' if of_base else ''
    raise ConfigError(
      f'config.{key}.{name} has no effect outside of frozen{also}'
    )
  if reference.offload:
    _check_fetched_again(blueprint, role)
  weights = blueprint.weights(role)
  if weights.stage is not None:
    check_same_text(weights.stage.sees, blueprint.sees, key)
  if theirs := _options(weights):
    check_unshaped(
      theirs,
      blueprint.learner_spec(role)['network'],
      blueprint.learner_key(role, 'network'),
      source=repr(reference.source),
    )
  loaded, fresh = weights.params, (model.plain or model).params
  if reference.matching and model.plain is not None:
    _check_full(blueprint, role, loaded)
  if not reference.matching:
    check_same_shapes(fresh, loaded, key)
  elif not matching(fresh, loaded):
    raise ConfigError(
      f'config.{key}: no array there matches an array of this stage in name '
      'and shape'
    )


def _check_fetched_again(blueprint: Blueprint, role: str) -> None:
  """The backward pass must not keep the layers that were fetched."""
  network = blueprint.learner_spec(role)['network']
  if network.get('remat') is None:
    key = blueprint.learner_key(role, 'network.remat')
    raise ConfigError(
      f'config.{blueprint.reference(role)[1]}.offload = True needs '
      f"config.{key} = 'full' or 'dots': else the backward pass keeps every "
      'layer that it has fetched'
    )


def _options(weights: Weights) -> Mapping[str, Any]:
  """The options of the network that has these weights, {} if not known."""
  if weights.published is not None:
    return weights.published.saved.options
  if weights.stage is not None:
    return weights.stage.learner_spec(weights.reference.role)['network']
  return {}


def _check_full(blueprint: Blueprint, role: str, base: Any) -> None:
  """What the base of LoRA does not have must learn in full."""
  model = blueprint.learners[role].model
  own, plain = by_name(model.params), by_name(model.plain.params)
  missing = plain.keys() - matching(model.plain.params, base).keys()
  if left := sorted(missing - own.keys()):
    raise ConfigError(
      f'config.{blueprint.learner_key(role, "lora.full")} = '
      f'{list(blueprint.stage.learners[role].lora.full)} must match '
      f'{", ".join(left[:3])}{", ..." * (len(left) > 3)}: the base, '
      f'{blueprint.reference(role)[0].source!r}, does not have '
      f'{"them" if len(left) > 1 else "it"}'
    )


def check_only(blueprint: Blueprint, role: str) -> None:
  """The pattern of the parameters that learn must match some."""
  pattern = blueprint.stage.learners[role].optim.only
  params = by_name(blueprint.learners[role].model.params)
  if not fnmatch.filter(params, pattern):
    raise ConfigError(
      f'config.{blueprint.learner_key(role, "optim.only")} = {pattern!r} must '
      f'match a parameter, such as {", ".join(list(params)[-3:])}'
    )
