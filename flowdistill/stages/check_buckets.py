"""Checks that a stage can be trained on batches of several shapes."""

from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.models import Model
from flowdistill.config.bind import ConfigError
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.tracing import trace


def check_buckets(blueprint: Blueprint) -> None:
  """Refuses networks that do not take the shape of every bucket.

  Raises:
    ConfigError: naming the network and the shape, or if no bucket is used.
  """
  if not blueprint.data.buckets:
    return
  _check_effect(blueprint)
  for name, role in blueprint.roles.items():
    if role.is_drawable:
      for bucket in blueprint.buckets:
        _check_network(blueprint, name, role.model, bucket.sees)
  _check_losses(blueprint)


def _check_effect(blueprint: Blueprint) -> None:
  """Without pictures of the data set there is one shape."""
  key, why = blueprint.key('dataset.buckets'), None
  if blueprint.stage.pairs is not None:
    why = 'the pairs that are trained on have one shape'
  elif blueprint.stage.train.data_free:
    why = 'no picture is read, as train.data_free = True'
  if why is not None:
    raise ConfigError(f'config.{key} has no effect: {why}')


def _check_network(
  blueprint: Blueprint, name: str, model: Model, sees: DataSpec
) -> None:
  """The answer of a network must have the shape of what it is asked."""
  try:
    found = answer_shape(model, sees)
  except (TypeError, ValueError) as error:
    reason = str(error).partition('\n')[0]
  else:
    if found == sees.shape:
      return
    reason = f'its answer has the shape {list(found)}'
  raise ConfigError(
    f'config.{network_key(blueprint, name)} must take pictures of any shape, '
    'as mmdit and U-Nets do whose patches or levels divide buckets.step: with '
    f'config.{blueprint.key("dataset.buckets")} there are '
    f'{list(sees.shape)} ({reason})'
  )


def answer_shape(model: Model, sees: DataSpec) -> tuple[int, ...]:
  """The shape of what a network answers to one example, without its rows."""
  batch = sees.abstract(1)
  times = jax.ShapeDtypeStruct((1,), jnp.float32)
  cond: dict[str, Any] = dict.fromkeys(model.scalars, times)
  cond |= batch['cond']
  args = model.complete, batch['x0'], times, times, cond
  return tuple(jax.eval_shape(model.apply, *args).shape[1:])


def network_key(blueprint: Blueprint, name: str) -> str:
  """The key of a role's network, with its name; that of a frozen role."""
  if name not in blueprint.learners:
    return blueprint.reference(name)[1]
  key = blueprint.learner_key(name, 'network.name')
  return f'{key} = {blueprint.learner_spec(name)["network"]["name"]!r}'


def _check_losses(blueprint: Blueprint) -> None:
  """What is not sampled, such as a discriminator, is called by the losses."""
  if all(role.is_drawable for role in blueprint.roles.values()):
    return
  for bucket in blueprint.buckets:
    for name in blueprint.learns:
      try:
        trace(bucket, name)
      except (TypeError, ValueError) as error:
        reason = str(error).partition('\n')[0]
        raise ConfigError(
          f'config.{blueprint.learner_key(name, "objective")} calls a network '
          f'that does not take pictures of {list(bucket.sees.shape)}, and '
          f'config.{blueprint.key("dataset.buckets")} has them ({reason})'
        ) from error
