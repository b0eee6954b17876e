"""PyTorch's implementations of a step, eager and compiled."""

import time

import jax
import torch

from flowdistill.against_torch.draws import draws
from flowdistill.against_torch.losses import Draws
from flowdistill.against_torch.step import TorchStep
from flowdistill.against_torch.supported import PLATFORMS
from flowdistill.build.blueprint import Blueprint
from flowdistill.config.sections import STUDENT
from flowdistill.evaluators.signature import Row
from flowdistill.stages.timing import Inputs

EAGER, COMPILED = 'PyTorch, eager', 'PyTorch, compiled'


class Contender:
  """A step that can be called, on draws that are the same in every step."""

  def __init__(self, step: TorchStep, drawn: Draws, *, compiled: bool):
    self.step, self.drawn, self.compiled = step, drawn, compiled

  def __call__(self) -> None:
    """One step."""
    self.step(self.drawn, compiled=self.compiled)
    if self.step.device.type == 'cuda':
      torch.cuda.synchronize()

  def first(self) -> Row:
    """The loss, and if it is compiled the seconds of that; nothing is updated.

    `unavailable` says why it cannot be compiled.
    """
    start = time.perf_counter()
    try:
      loss = self.step.gradient(self.drawn, compiled=self.compiled)
    except RuntimeError as error:
      if not self.compiled:
        raise
      lines = [line for line in str(error).splitlines() if line.strip()]
      return {'unavailable': f'because {lines[0]}'}
    seconds = time.perf_counter() - start
    return {'loss': loss, **({'compile_s': seconds} if self.compiled else {})}


def contenders(blueprint: Blueprint, inputs: Inputs) -> dict[str, Contender]:
  """Name -> step, with the weights and the draws of `inputs`.

  PyTorch has a device of the kind that JAX uses: see `check_backend`.
  """
  device = PLATFORMS[jax.default_backend()]
  drawn = jax.jit(lambda *args: draws(blueprint, *args))(
    inputs.state, inputs.batch, inputs.key
  )
  step = TorchStep(blueprint, inputs.params[STUDENT], inputs.frozen, device)
  on_device = step.draws(drawn)
  return {
    EAGER: Contender(step, on_device, compiled=False),
    COMPILED: Contender(step, on_device, compiled=True),
  }
