"""The cost of a training step, in operations and in forward passes."""

import math

import jax
import jax.numpy as jnp

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.models import Model, stored
from flowdistill.planning.flops import CONVOLUTION, WORK, UnknownLength, flops
from flowdistill.planning.hardware import peak_of

CONVOLUTIONS = (CONVOLUTION,)


def forward_passes(blueprint: Blueprint) -> float:
  """Operations of a step over those of one call of the first network.

  Only matrix products and convolutions are counted.
  """
  return step_flops(blueprint) / call_flops(blueprint)


def step_flops(blueprint: Blueprint) -> float:
  """Floating point operations of the losses and gradients of one batch.

  A role that is updated every n steps counts 1/n.
  """
  args = blueprint.state, blueprint.frozen_params, blueprint.batch()

  def role_flops(name: str) -> float:
    gradients, every = blueprint.gradients(name), blueprint.roles[name].every
    work = flops(lambda *args: gradients(*args, jax.random.key(0)), *args)
    return work if every == 1 else work / every

  return sum(map(role_flops, blueprint.learns))


def ideal_seconds(blueprint: Blueprint) -> float | None:
  """Seconds of a step at peak throughput of all devices; None if unknown."""
  peak, work = peak_flops(), None
  if peak is not None:
    work = useful_flops(blueprint)
  return None if peak is None or work is None else work / peak


def peak_flops() -> float | None:
  """Peak FLOP/s of all devices together; None if it is unknown."""
  peak = peak_of(jax.devices()[0].device_kind)
  return None if peak is None else jax.device_count() * peak


def useful_flops(blueprint: Blueprint) -> float | None:
  """`step_flops` without those of rematerialisation; None if unknown."""
  try:
    return step_flops(blueprint.changed(remat=None))
  except UnknownLength:
    return None


def size_of(blueprint: Blueprint) -> dict[str, int]:
  """Parameters of the first network, and MACs of a call for one example.

  `macs` are all of them; papers on U-Nets often count `macs_of_convolutions`,
  without attention. `stored` are entries of tables, such as SD3's positions,
  which are not among the parameters.
  """
  params = first(blueprint).params
  total = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
  convolutions = call_flops(blueprint, rows=1, of=CONVOLUTIONS)
  return {
    'parameters': total - stored(params),
    'stored': stored(params),
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
