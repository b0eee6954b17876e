"""What the small configs of this folder share: Align Your Flow in minutes.

The stages: `flow` and `weak`, the teacher and a network that is smaller, has
been trained less and has another EMA length; `distil`, autoguided EMD with a
drawn λ as an input; `adversarial`, Algorithm 2 with the other reading of its
adaptive weight, in which EMD leads. The student has the teacher's network and
times, so that nothing has to be aligned.

Source: Sabour, Fidler, Kreis, "Align Your Flow: Scaling Continuous-Time Flow
Map Distillation" (2025), https://arxiv.org/abs/2506.14603.
"""

import dataclasses
from typing import Any

Spec = dict[str, Any]

SCALARS = {'scalars': ('guidance',)}
TEACHERS = {'teacher': 'stage:flow', 'weak': 'stage:weak'}
NFES = (1, 2, 4, 8)
# The weights of an equalised learning rate are of the order of 1, whatever the
# width: at the student's rate they would hardly move in so few steps.
STYLEGAN2_ADAM = {
  'optimiser': {'name': 'adam', 'b1': 0.0, 'b2': 0.99},
  'schedule': {'name': 'constant', 'learning_rate': 2e-3, 'warmup': 0},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
  """The stages of one data set.

  Attributes:
    network: of the teacher and of the student.
    weak: what the weak network has in place of that.
    flow_times: of the training of both.
    times: of the student's.
    steps: of each stage.
    rates: learning rate of each stage.
    half_lives: of the EMA of each stage, in steps.
    warmup: steps until EMD's r is at its final value.
    scales: λ is drawn between these two.
    scale: λ at which students and the guided teacher are measured.
    discriminator: options of its network.
    solver: [sampler, NFE] of both teachers.
    measure: options of the evaluator `few_step`.
  """

  network: Spec
  weak: Spec
  flow_times: Spec
  times: Spec
  steps: dict[str, int]
  rates: dict[str, float]
  half_lives: dict[str, int]
  warmup: int
  scales: tuple[float, float]
  scale: float
  discriminator: Spec
  solver: list[Any]
  measure: Spec

  def stages(self) -> dict[str, Spec]:
    teachers = {
      'flow': self.teacher({}, 'flow', [self.solver]),
      'weak': self.teacher(self.weak, 'weak', [self.solver]),
    }
    return {
      **teachers,
      'distil': self.student('distil', self.emd(self.warmup), 'stage:flow'),
      'adversarial': self.adversarial(),
    }

  def teacher(self, network: Spec, stage: str, sweep: list[Any]) -> Spec:
    return {
      'network': {**self.network, **network},
      'objective': {'name': 'rectified_flow', 'times': self.flow_times},
      **self.trained(stage),
      **self.measured({'student': sweep}),
    }

  def student(self, stage: str, objective: Spec, start: str) -> Spec:
    solver, nfe = self.solver
    scale = self.scale
    away = {'scale': scale, 'against': 'weak'}
    guided = [solver, 2 * nfe, {'guidance': away}]
    sweep = [['flow_map', nfe, {'guidance': scale}] for nfe in NFES]
    return {
      'network': {**self.network, **SCALARS},
      'init_from': {'source': start, 'matching': True},
      'frozen': TEACHERS,
      'objective': objective,
      **self.trained(stage),
      **self.measured({'student': sweep, 'teacher': [guided]}),
    }

  def emd(self, warmup: int) -> Spec:
    return {
      'name': 'ayf_emd',
      'times': self.times,
      'guidance': self.drawn,
      'warmup_steps': warmup,
    }

  def adversarial(self) -> Spec:
    fakes = {'guidance': self.drawn}
    finetuned = {
      'name': 'adversarial',
      'base': self.emd(warmup=0),
      'fakes': fakes,
      'adaptive': 'adversarial',
    }
    discriminator = {
      'network': {'name': 'stylegan2_discriminator', **self.discriminator},
      'objective': {'name': 'relativistic', 'fakes': fakes},
      'optim': STYLEGAN2_ADAM,
    }
    return {
      **self.student('adversarial', finetuned, 'stage:distil'),
      'roles': {'discriminator': discriminator},
    }

  @property
  def drawn(self) -> Spec:
    low, high = self.scales
    return {'name': 'uniform', 'low': low, 'high': high}

  def trained(self, stage: str) -> Spec:
    return {
      'train': {'steps': self.steps[stage]},
      'optim': {'schedule': {'learning_rate': self.rates[stage]}},
      'ema': {'main': {'half_life': {'steps': self.half_lives[stage]}}},
    }

  def measured(self, sweep: Spec) -> Spec:
    few_step = {'name': 'few_step', 'sweep': sweep, **self.measure}
    pictures = {'name': 'pictures', 'sweep': sweep}
    return {'evaluators': {'few_step': few_step, 'pictures': pictures}}
