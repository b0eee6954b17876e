"""The train step in PyTorch, eager or compiled."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import swa_utils

from flowdistill.against_torch.dit import DiT
from flowdistill.against_torch.draws import options_of
from flowdistill.against_torch.edm2 import EDM2
from flowdistill.against_torch.losses import Draws, ayf_emd, rectified_flow
from flowdistill.against_torch.weights import state_dict
from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import Spec
from flowdistill.config.sections import STUDENT

NETWORKS = {'dit': DiT, 'edm2': EDM2}
LOSSES = {'rectified_flow': rectified_flow, 'ayf_emd': ayf_emd}
OPTIMISERS = {
  'adam': functools.partial(torch.optim.Adam, fused=True),
  'adamw': functools.partial(torch.optim.AdamW, fused=True),
  'radam': torch.optim.RAdam,
}
NOT_OURS = ('name', 'dtype', 'attention_form', 'remat', 'dropout', 'fir')
DECAY = 0.999  # of the EMAs: it has no effect on the time


class TorchStep:
  """The student's step: loss, gradient, optimiser, EMAs.

  Args:
    blueprint: of a stage that `supported.check` accepts.
    params: of the student.
    frozen: name -> parameters of a frozen network.
    device: of PyTorch.
  """

  def __init__(
    self,
    blueprint: Blueprint,
    params: Any,
    frozen: Mapping[str, Any],
    device: str,
  ):
    self.device = torch.device(device)
    self.student = self.network(blueprint, blueprint.spec['network'], params)
    self.teacher = None
    if 'teacher' in frozen:
      spec = blueprint.weights('teacher').stage.spec['network']
      self.teacher = self.network(blueprint, spec, frozen['teacher'])
      self.teacher.requires_grad_(False)
    name = blueprint.spec['objective']['name']
    self.loss_of = LOSSES[name]
    if name == 'ayf_emd':
      options = options_of(blueprint.stage.learners[STUDENT].objective)
      self.loss_of = functools.partial(ayf_emd, c=options['c'])
    self.optimiser = make_optimiser(blueprint.spec['optim'], self.student)
    self.clip = blueprint.spec['optim']['clip']
    average = swa_utils.get_ema_multi_avg_fn(DECAY)
    self.emas = [
      swa_utils.AveragedModel(self.student, multi_avg_fn=average)
      for _ in blueprint.spec['ema']
    ]
    # One that compiles at its first call.
    self.compiled_loss = torch.compile(self.mean_loss, fullgraph=True)

  def network(self, blueprint: Blueprint, spec: Spec, params: Any) -> nn.Module:
    """A network with the parameters of ours."""
    options = {k: v for k, v in spec.items() if k not in NOT_OURS}
    sees = blueprint.sees
    net = NETWORKS[spec['name']](sees.shape, sees.num_classes, **options)
    net.load_state_dict(state_dict(params))
    return net.to(self.device)

  def draws(self, arrays: Mapping[str, Any]) -> Draws:
    """The arrays of `draws.draws` on the device, images as [b, c, h, w]."""

    def put(array: Any) -> Tensor:
      array = np.asarray(array)
      array = np.moveaxis(array, -1, 1) if array.ndim == 4 else array
      return torch.tensor(array).contiguous().to(self.device)

    cond = {name: put(each) for name, each in arrays['cond'].items()}
    rest = {k: put(v) for k, v in arrays.items() if k != 'cond'}
    return Draws(cond=cond, **rest)

  def mean_loss(self, draws: Draws) -> Tensor:
    return self.loss_of(self.student, self.teacher, draws).mean()

  def gradient(self, draws: Draws, *, compiled: bool = False) -> float:
    """Leaves the gradient in the parameters, and returns the loss."""
    self.optimiser.zero_grad(set_to_none=True)
    loss = (self.compiled_loss if compiled else self.mean_loss)(draws)
    loss.backward()
    return float(loss.detach())

  def __call__(self, draws: Draws, *, compiled: bool = False) -> float:
    """One step; returns the loss before it."""
    loss = self.gradient(draws, compiled=compiled)
    most = float('inf') if self.clip is None else self.clip
    nn.utils.clip_grad_norm_(self.student.parameters(), most)
    self.optimiser.step()
    if isinstance(self.student, EDM2):
      self.student.project()
    for ema in self.emas:
      ema.update_parameters(self.student)
    return loss


def make_optimiser(spec: Spec, network: nn.Module) -> torch.optim.Optimizer:
  """The optimiser of a config, at a constant rate."""
  own = spec['optimiser']
  options = {'betas': (own['b1'], own['b2']), 'eps': own['eps']}
  if 'weight_decay' in own:
    options['weight_decay'] = own['weight_decay']
  rate = spec['schedule']['learning_rate']
  return OPTIMISERS[own['name']](network.parameters(), lr=rate, **options)
