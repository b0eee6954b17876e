"""What a training step costs, in operations and in forward passes."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from flowdistill.build import objects as build
from flowdistill.build.objects import Model
from flowdistill.build.tracing import batch_shapes
from flowdistill.config.bind import Spec
from flowdistill.config.sections import Stage
from flowdistill.datasets.source import Source
from flowdistill.planning.flops import CONVOLUTION, WORK, UnknownLength, flops
from flowdistill.planning.hardware import peak_of
from flowdistill.stages.assembly import Assembly
from flowdistill.training.state import gradients

CONVOLUTIONS = (CONVOLUTION,)


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


def size_of(stage: Stage, source: Source, model: Model) -> dict[str, int]:
  """Parameters, and multiply-accumulate operations of a call for one example.

  `macs` are all of them; `macs_of_convolutions` is what papers count of U-Nets,
  whose tables leave out attention.
  """
  train = dataclasses.replace(stage.train, batch_size=1)
  one = dataclasses.replace(stage, train=train)
  params = jax.tree.leaves(model.params)
  return {
    'parameters': sum(math.prod(x.shape) for x in params),
    'macs': call_flops(one, source, model) // 2,
    'macs_of_convolutions': call_flops(one, source, model, CONVOLUTIONS) // 2,
  }


def call_flops(
  stage: Stage, source: Source, student: Model, of: tuple[str, ...] = WORK
) -> int:
  """Floating point operations of one call of the student on one batch."""

  def call(params, batch):
    t = jnp.ones(len(batch['x0']))
    cond = {**batch['cond'], **dict.fromkeys(student.scalars, t)}
    return student.apply(params, batch['x0'], t, t, cond)

  return flops(call, student.params, batch_shapes(stage, source), of=of)
