"""What a training step costs, in forward passes of the network that learns."""

import jax
import jax.numpy as jnp

from flowdistill import build
from flowdistill.build import Model
from flowdistill.datasets.source import Source
from flowdistill.jobs.assemble import Assembly
from flowdistill.stage import Stage
from flowdistill.tracing import batch_shapes
from flowdistill.training.cost import flops
from flowdistill.training.state import gradients


def forward_passes(assembly: Assembly) -> float:
  """Of loss and gradient of one batch, over those of one call of the student.

  Counted over the matrix products and convolutions of the traced step.
  """
  stage, source = assembly.stage, assembly.source
  applies = {role: model.apply for role, model in assembly.models.items()}
  state, batch = (
    build.abstract_state(stage, source),
    batch_shapes(stage, source),
  )

  def step(state, frozen, batch):
    key = jax.random.key(0)
    return gradients(assembly.trained, state, frozen, applies, batch, key, key)

  once = call_flops(stage, source, assembly.models['student'])
  return flops(step, state, assembly.frozen, batch) / once


def call_flops(stage: Stage, source: Source, student: Model) -> int:
  """Floating point operations of one call of the student on one batch."""

  def call(params, batch):
    t = jnp.ones(len(batch['x0']))
    cond = {**batch['cond'], **dict.fromkeys(student.scalars, t)}
    return student.apply(params, batch['x0'], t, t, cond)

  return flops(call, student.params, batch_shapes(stage, source))
