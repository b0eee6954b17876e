"""The tables of the rooms, by the annotation that stands for a name in them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flowdistill.build.measured import FEATURE_LAWS
from flowdistill.build.spaces import SPACE_LAWS
from flowdistill.build.texts import TEXT_LAWS
from flowdistill.config import bind
from flowdistill.config.bind import Spec
from flowdistill.config.kinds import ENCODE, PAIRS, TRAIN, kind_of
from flowdistill.config.protocols import (
  Dataset,
  EmaKind,
  Evaluator,
  Features,
  Network,
  Optimiser,
  Schedule,
  Space,
  TextEncoder,
)
from flowdistill.config.resolve import resolve
from flowdistill.config.stages import EncodeStage, PairStage, TrainStage
from flowdistill.datasets import DATASETS
from flowdistill.datasets.texts import Text
from flowdistill.evaluators import EVALUATORS
from flowdistill.flow.couplings import (
  ANNEALINGS,
  COUPLINGS,
  Annealing,
  Coupling,
)
from flowdistill.flow.guidance import GUIDANCE, ScaleLaw
from flowdistill.flow.losses import REDUCTIONS, Reduction
from flowdistill.flow.tangent import TANGENTS, Tangent
from flowdistill.flow.times import TIME_PAIRS, TIMES, PairLaw, TimeLaw
from flowdistill.flow.weighting import WEIGHTS, Weight
from flowdistill.metrics import METRICS
from flowdistill.metrics.metric import Metric
from flowdistill.metrics.summary import MetricLaw
from flowdistill.networks import NETWORKS
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Objective
from flowdistill.text_encoders import TEXT_ENCODERS
from flowdistill.training.ema import EMAS
from flowdistill.training.ema_warmups import WARMUPS, Warmup
from flowdistill.training.optim import OPTIMISERS, SCHEDULES


def _law(name: str, metric: Metric) -> Callable[..., Metric]:
  """law(*, the options of the metric) -> the metric with them bound."""

  @functools.wraps(metric.function)
  def law(**given: Any) -> Metric:
    bound = functools.partial(metric.function, **given)
    least = functools.partial(metric.least, **{**metric.options, **given})
    defaults = metric.options
    return dataclasses.replace(
      metric,
      function=bound,
      least=least,
      name=name,
      given=given,
      defaults=defaults,
    )

  return law


ROOMS: bind.Rooms = {
  Dataset: DATASETS,
  Text: TEXT_LAWS,
  TextEncoder: TEXT_ENCODERS,
  Space: SPACE_LAWS,
  Network: NETWORKS,
  Objective: OBJECTIVES,
  TimeLaw: TIMES,
  PairLaw: TIME_PAIRS,
  Weight: WEIGHTS,
  Reduction: REDUCTIONS,
  Coupling: COUPLINGS,
  Annealing: ANNEALINGS,
  ScaleLaw: GUIDANCE,
  Tangent: TANGENTS,
  Optimiser: OPTIMISERS,
  Schedule: SCHEDULES,
  EmaKind: EMAS,
  Warmup: WARMUPS,
  Features: FEATURE_LAWS,
  Evaluator: EVALUATORS,
  MetricLaw: {name: _law(name, metric) for name, metric in METRICS.items()},
}
SECTIONS = {TRAIN: TrainStage, PAIRS: PairStage, ENCODE: EncodeStage}
"""Kind of a stage -> dataclass of its keys."""


def resolve_stage(spec: Spec, where: str = '') -> Spec:
  """A stage's dict with all its defaults."""
  return resolve(spec, kind_of(spec, SECTIONS, where), where, ROOMS)


def bind_stage(spec: Spec, where: str = '') -> Any:
  """The section of a resolved dict, with its names bound to functions."""
  return bind.bind(spec, kind_of(spec, SECTIONS, where), where, ROOMS)
