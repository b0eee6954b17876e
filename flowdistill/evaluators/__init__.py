"""Evaluators: `f(models, source, features, folder, *, ...) -> iterator[row]`.

A row is a dict that JSON can hold: what was measured (`model`, `sampler`,
`nfe`, `samples`, `seed`) and the figures. Pictures go to `folder`/samples.
Arguments are checked when an evaluator is called, before anything is drawn.
"""

from flowdistill.evaluators.energy import energy
from flowdistill.evaluators.few_step import few_step
from flowdistill.evaluators.pictures import pictures

EVALUATORS = {'few_step': few_step, 'energy': energy, 'pictures': pictures}
