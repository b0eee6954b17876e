"""What the configs of this folder with U-Nets share: Align Your Flow.

Their argument is a comma-separated list: `teacher=RUN` and `weak=RUN`, folders
of runs that `--job=convert` made of published weights, in place of training
both networks here; `inception=FILE`, weights for FID, and `reference=FILE`, the
statistics that it is computed from in place of the data; what the config itself
names; and `runlocal`.

The stages: `flow` and `weak`, the teacher and a network that is smaller, has
been trained less and has another EMA length; `align`, in which the time
embedding alone of a student that embeds t learns to answer like its teacher,
that embeds ln(σ)/4; `distil`, autoguided EMD with λ ~ U[1, 3] as an input;
`adversarial`, Algorithm 2.

Hyperparameters are those of Align Your Flow (2025),
https://arxiv.org/abs/2506.14603, as far as they are known, and of sCM (2024),
https://arxiv.org/abs/2410.11081, on which it builds. Unconfirmed, as third
parties give them: the times of `distil`, and of which data set they are, its
warm-up, the range of λ, α, r1 and r2, and the rate of `adversarial`. The
lengths of `align` and `distil` are ours, and so are rate and schedule of both
teachers.
"""

import dataclasses
from typing import Any

from flowdistill.config import ConfigError, suggest

Spec = dict[str, Any]

STUDENT = {'time': 'linear', 'scalars': ('guidance',)}
SCALES = {'name': 'uniform', 'low': 1.0, 'high': 3.0}
NFES = (1, 2, 4)


def given(arg: str, *more: str) -> dict[str, str]:
  """The words NAME=VALUE of an argument.

  Raises:
    ConfigError: for a word that is unknown.
  """
  known = ['teacher', 'weak', 'inception', 'reference', *more]
  found = {}
  for word in filter(None, arg.split(',')):
    name, equals, value = word.partition('=')
    if name not in known or not equals:
      names = [f'{name}=PATH' for name in known]
      raise ConfigError(f'config argument {word!r}: {suggest(word, names)}')
    found[name] = value
  return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ayf:
  """The stages of one data set.

  Attributes:
    given: the words of the config's argument.
    network: of the teacher and the student; by default EDM2-S.
    weak_network: what the weak network has in place of that.
    noise_embedding: pattern of the parameters that embed the noise level.
    batch: examples of a step.
    rate: learning rate of both teachers.
    steps: of the teacher.
    weak_steps: of the weak network.
    ema: σ_rel of the teacher's EMA.
    weak_ema: σ_rel of the weak network's.
    noise: mean and standard deviation of ln σ in the training of both.
    gaps: mean and std of `interval`, from which the student's times are.
    scale: λ at which the student is measured, the best of the guided teacher.
  """

  given: dict[str, str]
  network: Spec = dataclasses.field(default_factory=lambda: {'width': 192})
  weak_network: Spec = dataclasses.field(default_factory=lambda: {'width': 128})
  noise_embedding: str = 'noise.*'
  batch: int = 2048
  rate: float = 1e-2
  steps: int
  weak_steps: int
  ema: float
  weak_ema: float
  noise: tuple[float, float]
  gaps: tuple[float, float]
  scale: float

  def stages(self) -> dict[str, Spec]:
    """All of them; without `flow` and `weak` where runs are given."""
    teachers = {
      'flow': self.teacher({}, self.steps, self.ema),
      'weak': self.teacher(self.weak_network, self.weak_steps, self.weak_ema),
    }
    for stage, name in {'flow': 'teacher', 'weak': 'weak'}.items():
      if name in self.given:
        del teachers[stage]
    students = ('align', 'distil', 'adversarial')
    return {**teachers, **{name: getattr(self, name)() for name in students}}

  def source(self, name: str, stage: str) -> str:
    """A run that was given, or the stage that takes its place."""
    return self.given.get(name, f'stage:{stage}')

  def teacher(self, network: Spec, steps: int, ema: float) -> Spec:
    mean, std = self.noise
    return {
      'network': {**self.network, **network},
      'objective': {
        'name': 'rectified_flow',
        'times': {'name': 'logit_normal', 'mean': mean, 'std': std},
      },
      'train': {'steps': steps, 'batch_size': self.batch},
      'optim': adam(self.rate, 'cosine', warmup=5000),
      'ema': {'main': {'sigma_rel': ema}},
    }

  def align(self) -> Spec:
    """The student's time embedding, before anything else learns."""
    return {
      'network': {**self.network, 'time': 'linear'},
      'init_from': self.source('teacher', 'flow'),
      'frozen': {'teacher': self.source('teacher', 'flow')},
      'objective': {  # u(x_t, t, t) is the velocity of the teacher
        'name': 'mean_flow',
        'distil': True,
        'times': {'name': 'sorted_uniform', 'instant': 1.0},
      },
      'train': {'steps': 5000, 'batch_size': self.batch},
      'optim': {**adam(1e-3, 'cosine'), 'only': self.noise_embedding},
      'ema': {'main': {'decay': 0.999}},
    }

  def distil(self) -> Spec:
    return {
      'network': {**self.network, **STUDENT},
      'init_from': {'source': 'stage:align', 'matching': True},
      'frozen': self.teachers(),
      'objective': self.emd(),
      'train': {'steps': 50_000, 'batch_size': self.batch},
      'optim': adam(1e-4),
      'ema': {'main': {'sigma_rel': 0.05}},
      **measured(self.given, self.scale),
    }

  def adversarial(self) -> Spec:
    """Algorithm 2, from the EMA weights of `distil`."""
    return {
      'network': {**self.network, **STUDENT},
      'init_from': 'stage:distil',
      'frozen': self.teachers(),
      'objective': {
        'name': 'adversarial',
        'base': {**self.emd(), 'warmup_steps': 0},
        'fakes': {'guidance': SCALES},
      },
      'roles': {
        'discriminator': {
          'network': 'stylegan2_discriminator',
          'objective': {'name': 'relativistic', 'fakes': {'guidance': SCALES}},
          'optim': adam(2e-5),
        }
      },
      'train': {'steps': 3000, 'batch_size': self.batch},
      'optim': adam(2e-5),
      'ema': {'main': {'sigma_rel': 0.05}},
      **measured(self.given, self.scale),
    }

  def emd(self) -> Spec:
    mean, std = self.gaps
    return {
      'name': 'ayf_emd',
      'times': {'name': 'interval', 'mean': mean, 'std': std},
      'guidance': SCALES,
      'warmup_steps': 10_000,
    }

  def teachers(self) -> Spec:
    sources = {'teacher': 'flow', 'weak': 'weak'}
    return {name: self.source(name, stage) for name, stage in sources.items()}


def measured(given: dict[str, str], scale: float) -> Spec:
  """FID at guidance λ = scale, if the weights of its network are given."""
  if 'inception' not in given:
    return {}
  ways = [['flow_map', n, {'guidance': scale}] for n in NFES]
  features = {'name': 'inception', 'path': given['inception']}
  return {
    'evaluation': {'features': features, 'reference': given.get('reference')},
    'evaluators': {
      'quality': {
        'name': 'quality',
        'sweep': {'student': ways},
        'samples': 50_000,
        'sets': 1,
      }
    },
  }


def adam(rate: float, schedule: str = 'constant', warmup: int = 0) -> Spec:
  """As in sCM."""
  return {
    'optimiser': {'name': 'adam', 'b1': 0.9, 'b2': 0.99, 'eps': 1e-11},
    'schedule': {'name': schedule, 'learning_rate': rate, 'warmup': warmup},
  }
