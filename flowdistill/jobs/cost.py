"""What a training step costs, in operations and in forward passes."""

import dataclasses

import jax
import jax.numpy as jnp

from flowdistill import build
from flowdistill.bind import Spec
from flowdistill.build import Model
from flowdistill.datasets.source import Source
from flowdistill.jobs.assemble import Assembly
from flowdistill.jobs.hardware import peak_of
from flowdistill.stage import Stage
from flowdistill.tracing import batch_shapes
from flowdistill.training.cost import UnknownLength, flops
from flowdistill.training.state import gradients


def forward_passes(assembly: Assembly) -> float:
  """Of loss and gradient of one batch, over those of one call of the student.

  Counted over the matrix products and convolutions of the traced step.
  """
  stage, source = assembly.stage, assembly.source
  once = call_flops(stage, source, assembly.models['student'])
  return step_flops(assembly) / once


def step_flops(assembly: Assembly) -> int:
  """Floating point operations of loss and gradient of one batch."""
  stage, source = assembly.stage, assembly.source
  applies = {role: model.apply for role, model in assembly.models.items()}
  state = build.abstract_state(stage, source)
  batch = batch_shapes(stage, source)

  def step(state, frozen, batch):
    key = jax.random.key(0)
    return gradients(assembly.trained, state, frozen, applies, batch, key, key)

  return flops(step, state, assembly.frozen, batch)


def ideal_seconds(spec: Spec, assembly: Assembly) -> float | None:
  """Of a step at the peak of all devices; None where that is not known.

  Over it are those operations that the model needs: what is computed again in
  the backward pass to spare memory is left out.
  """
  peak = peak_of(jax.devices()[0].device_kind)
  if peak is None:
    return None
  stage = build.bind_stage(without_remat(spec))
  student = build.build_model(stage, assembly.source)
  models = {**assembly.models, 'student': student}
  try:
    work = step_flops(dataclasses.replace(assembly, models=models))
  except UnknownLength:
    return None
  return work / (jax.device_count() * peak)


def without_remat(spec: Spec) -> Spec:
  """A stage whose network, if it can, keeps all that its gradient reads."""
  if 'remat' not in spec['network']:
    return spec
  return {**spec, 'network': {**spec['network'], 'remat': None}}


def call_flops(stage: Stage, source: Source, student: Model) -> int:
  """Floating point operations of one call of the student on one batch."""

  def call(params, batch):
    t = jnp.ones(len(batch['x0']))
    cond = {**batch['cond'], **dict.fromkeys(student.scalars, t)}
    return student.apply(params, batch['x0'], t, t, cond)

  return flops(call, student.params, batch_shapes(stage, source))
