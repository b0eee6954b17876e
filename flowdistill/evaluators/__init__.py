"""Evaluators: `f(models, source, features, folder, *, ...) -> iterator[row]`.

A row is a JSON-serialisable dict: what was measured (`model`, `sampler`, `nfe`,
`options`, `samples`, `seed`) and the figures. Pictures go to `folder`/samples.
Arguments are checked when an evaluator is called, before anything is drawn. On
several processes every one of them runs the evaluators, each with a folder of
its own, as drawing is collective.
"""

from flowdistill.evaluators.any_step import any_step
from flowdistill.evaluators.boundary import boundary
from flowdistill.evaluators.energy import energy
from flowdistill.evaluators.few_step import few_step
from flowdistill.evaluators.flow_loss import flow_loss
from flowdistill.evaluators.geneval import geneval
from flowdistill.evaluators.paths import paths
from flowdistill.evaluators.pictures import pictures
from flowdistill.evaluators.quality import quality
from flowdistill.evaluators.semigroup import semigroup
from flowdistill.evaluators.straightness import straightness
from flowdistill.evaluators.teacher_distance import teacher_distance

EVALUATORS = {
  'few_step': few_step,
  'quality': quality,
  'energy': energy,
  'geneval': geneval,
  'pictures': pictures,
  'any_step': any_step,
  'semigroup': semigroup,
  'boundary': boundary,
  'teacher_distance': teacher_distance,
  'straightness': straightness,
  'flow_loss': flow_loss,
  'paths': paths,
}
