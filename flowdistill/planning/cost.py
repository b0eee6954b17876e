"""What a training step costs, in operations and in forward passes."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.models import Model
from flowdistill.planning.flops import CONVOLUTION, WORK, UnknownLength, flops
from flowdistill.planning.hardware import peak_of

CONVOLUTIONS = (CONVOLUTION,)


def forward_passes(blueprint: Blueprint) -> float:
  """Of a step, over those of one call of the first network on its batch.

  Counted over the matrix products and convolutions of the traced step.
  """
  return step_flops(blueprint) / call_flops(blueprint)


def step_flops(blueprint: Blueprint) -> float:
  """Floating point operations of the losses and gradients of one batch.

  A role that is updated every n steps counts an n-th.
  """
  args = blueprint.state, blueprint.frozen_params, blueprint.batch()
  works = {
    name: flops(with_a_key(blueprint.gradients(name)), *args)
    for name in blueprint.learns
  }
  return sum(
    work if (every := blueprint.roles[name].every) == 1 else work / every
    for name, work in works.items()
  )


def with_a_key(f: Callable[..., Any]) -> Callable[..., Any]:
  """f without its last argument, the key of a step."""
  return lambda *args: f(*args, jax.random.key(0))


def ideal_seconds(blueprint: Blueprint) -> float | None:
  """Of a step at the peak of all devices; None where that is not known.

  Its operations are those that the model needs: what is rematerialised to save
  memory is left out.
  """
  peak = peak_of(jax.devices()[0].device_kind)
  if peak is None:
    return None
  try:
    work = step_flops(blueprint.changed(remat=None))
  except UnknownLength:
    return None
  return work / (jax.device_count() * peak)


def size_of(blueprint: Blueprint) -> dict[str, int]:
  """Parameters, and multiply-accumulate operations of a call for one example.

  Of the first network. `macs` are all of them; `macs_of_convolutions` is what
  papers count of U-Nets, whose tables leave out attention.
  """
  params = jax.tree.leaves(first(blueprint).params)
  convolutions = call_flops(blueprint, rows=1, of=CONVOLUTIONS)
  return {
    'parameters': sum(math.prod(x.shape) for x in params),
    'macs': call_flops(blueprint, rows=1) // 2,
    'macs_of_convolutions': convolutions // 2,
  }


def first(blueprint: Blueprint) -> Model:
  """The network that is trained first."""
  return next(iter(blueprint.learners.values())).model


def call_flops(
  blueprint: Blueprint,
  *,
  rows: int | None = None,
  of: tuple[str, ...] = WORK,
) -> int:
  """Floating point operations of one call of the first network on a batch."""
  model = first(blueprint)

  def call(params, batch):
    t = jnp.ones(len(batch['x0']))
    cond = {**batch['cond'], **dict.fromkeys(model.scalars, t)}
    return model.apply(params, batch['x0'], t, t, cond)

  return flops(call, model.params, blueprint.batch(rows), of=of)
