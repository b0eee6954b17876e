"""Objectives: pure functions `loss(nets, batch, key, step, *, ...)`.

`nets` is a `Roles` record of callables, `batch` a dict with `x0` [b, ...],
`cond`, `null` (the unconditional condition, a tree like `cond`) and, where the
coupling is paired, `x1`. The answer is (loss [b], metrics: name -> scalar).
"""

from flowdistill.objectives.align_your_flow import ayf_emd, ayf_lmd
from flowdistill.objectives.consistency import ect, scm
from flowdistill.objectives.rectified_flow import rectified_flow

OBJECTIVES = {
  'rectified_flow': rectified_flow,
  'ayf_emd': ayf_emd,
  'ayf_lmd': ayf_lmd,
  'ect': ect,
  'scm': scm,
}
