"""What an objective draws in a step, drawn once more for PyTorch."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.sections import STUDENT
from flowdistill.training.state import TrainState, prepare

Arrays = dict[str, Any]


def draws(
  blueprint: Blueprint, state: TrainState, batch: Mapping[str, Any], key: Any
) -> Arrays:
  """Of the student's objective in one train step, see `losses.Draws`.

  Args:
    blueprint: of a stage that `check` accepts.
    state: before the step.
    batch: of the step.
    key: that the train step gets.
  """
  train = blueprint.stage.train
  batch, (own, _) = prepare(state, batch, key, train.drop_cond, train.flip)
  bound = blueprint.stage.learners[STUDENT].objective
  options = options_of(bound)
  name = blueprint.spec['objective']['name']
  found = DRAWS[name](options, batch, own, state.step)
  weight = options['weight'](found['t'], found['s'])
  return {**found, 'weight': weight, 'cond': batch['cond']}


def options_of(objective: Callable[..., Any]) -> dict[str, Any]:
  """The options of an objective as they are bound."""
  parameters = inspect.signature(objective).parameters.values()
  return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY}


def of_rectified_flow(
  options: Mapping[str, Any], batch: Mapping[str, Any], key: Any, step: Any
) -> Arrays:
  """Data and noise of the coupling, and t."""
  key_t, key_x = jax.random.split(key)
  x0, x1 = options['coupling'](key_x, batch, step)
  t = options['times'](key_t, len(x0))
  return {'x0': x0, 'x1': x1, 't': t, 's': t, 'r': jnp.zeros(())}


def of_ayf_emd(
  options: Mapping[str, Any], batch: Mapping[str, Any], key: Any, step: Any
) -> Arrays:
  """Noise, both times, and r."""
  key_t, key_x, _ = jax.random.split(key, 3)
  x0 = batch['x0']
  t, s = options['times'](key_t, len(x0))
  x1 = jax.random.normal(key_x, x0.shape, x0.dtype)
  steps, most = options['warmup_steps'], options['max_r']
  r = jnp.minimum(most, step / steps if steps else most)
  return {'x0': x0, 'x1': x1, 't': t, 's': s, 'r': r}


DRAWS = {'rectified_flow': of_rectified_flow, 'ayf_emd': of_ayf_emd}
