"""Objectives: pure functions `loss(nets, batch, key, step, *, ...)`.

`nets` is a `Roles` record of callables that holds every role of the stage, also
for the objective of a second role that learns. `batch` is a dict with `x0`
[b, ...], `cond`, `null` (the unconditional condition, a tree like `cond`) and,
where the coupling is paired, `x1`. The names of the conditions do not matter.
`key` is the random key of this step, `step` the number of steps taken in this
stage, or of the updates of a role with `every` or `start`. The result is (loss
[b], metrics: name -> scalar).
"""

from flowdistill.objectives.adversarial import adversarial
from flowdistill.objectives.align_your_flow import ayf_emd, ayf_lmd
from flowdistill.objectives.consistency import ect, scm
from flowdistill.objectives.distillation import distillation
from flowdistill.objectives.flow_anchored import facm
from flowdistill.objectives.mean_flow import improved_mean_flow, mean_flow
from flowdistill.objectives.rcgm import rcgm
from flowdistill.objectives.rectified_flow import rectified_flow
from flowdistill.objectives.relativistic import relativistic
from flowdistill.objectives.shortcut import shortcut
from flowdistill.objectives.terminal_velocity import tvm
from flowdistill.objectives.twinflow import twinflow

OBJECTIVES = {
  'rectified_flow': rectified_flow,
  'ayf_emd': ayf_emd,
  'ayf_lmd': ayf_lmd,
  'distillation': distillation,
  'ect': ect,
  'scm': scm,
  'mean_flow': mean_flow,
  'improved_mean_flow': improved_mean_flow,
  'shortcut': shortcut,
  'rcgm': rcgm,
  'twinflow': twinflow,
  'tvm': tvm,
  'facm': facm,
  'adversarial': adversarial,
  'relativistic': relativistic,
}
INSTANT = ('rectified_flow',)
"""Those that train the velocity u(x_t, t, t) alone, whatever their options."""
