"""What the configs of this folder share: data, networks and stages.

Their argument is a comma-separated list: the data set, `cifar10`, `ffhq64` or
`imagenet64`; the size of the slim network, such as `15m`; `folder=PATH` for
FFHQ and `data_dir=PATH` for the others; `lpips=FILE`, the weights of LPIPS; and
`runlocal`.

Architectures and hyperparameters are those of SlimFlow (2024),
https://arxiv.org/abs/2407.12718, and its code. The lengths of the stages are
ours.
"""

from typing import Any

from flowdistill.config import ConfigError, suggest

Spec = dict[str, Any]

TEACHERS = {'cifar10': '61m', 'ffhq64': '61m', 'imagenet64': '80m'}
CLASSES = ('imagenet64',)
NCSNPP, ADM = 'ncsnpp', 'adm'
SIZES = {
  '61m': (NCSNPP, 128, 4, (1, 2, 2, 2)),
  '27m': (NCSNPP, 128, 2, (1, 2, 2)),
  '15m': (NCSNPP, 96, 2, (1, 2, 2)),
  '7m': (NCSNPP, 64, 2, (1, 2, 2)),
  '3m': (NCSNPP, 64, 1, (1, 1, 2)),
  '80m': (ADM, 128, 2, (1, 2, 2, 4)),
  '44m': (ADM, 128, 2, (1, 2, 2, 2)),
}
ATTENTION = {NCSNPP: (16,), ADM: (32, 16)}
FLOW_STEPS, REFLOW_STEPS, ONE_STEP_STEPS = 800_000, 800_000, 400_000
WARM_UP, PAIRS = 300_000, {'cifar10': 500_000, 'ffhq64': 200_000}
KEYS = ('folder', 'data_dir', 'lpips')


class Road:
  """The stages from scratch to one step, for one data set and one size.

  Args:
    arg: the argument of a config, see above.

  Raises:
    ConfigError: if a word is unknown, or there is no such size for the data.
  """

  def __init__(self, arg: str):
    words = [word for word in arg.split(',') if word]
    self.given = dict(w.split('=', 1) for w in words if '=' in w)
    names = [word for word in words if '=' not in word]
    known = [*TEACHERS, *SIZES, *(f'{key}=PATH' for key in KEYS), 'runlocal']
    for word in [*names, *self.given]:
      if word not in (*TEACHERS, *SIZES, *KEYS):
        raise ConfigError(f'config argument {word!r}: {suggest(word, known)}')
    data = [name for name in names if name in TEACHERS] or ['cifar10']
    sizes = [name for name in names if name in SIZES]
    if len(data) > 1 or len(sizes) > 1:
      raise ConfigError(
        f'config argument {arg!r} must name one data set and one size'
      )
    self.data = data[0]
    self.fat = network(TEACHERS[self.data])
    slim = {'imagenet64': '44m'}.get(self.data, '15m')
    self.slim = network((sizes or [slim])[0])
    if self.fat['name'] != self.slim['name']:
      raise ConfigError(
        f'config argument {arg!r}: {sizes[0]} is not a size for {self.data}'
      )

  def config(self, *names: str) -> Spec:
    """The stages of these names, and the options that they share."""
    return {
      'dataset': self.dataset(),
      'train': {'batch_size': 128, 'flip': True},
      'optim': {
        'optimiser': {'name': 'adam', 'b1': 0.9, 'b2': 0.999},
        'schedule': {
          'name': 'constant',
          'learning_rate': 2e-4,
          'warmup': 5000,
        },
        'clip': 1.0,
      },
      'ema': {'main': {'decay': 0.999999, 'warmup': 'hyperbolic'}},
      'checkpoint': {
        'every': {'steps': 10_000},
        'keep_every': {'steps': 50_000},
      },
      'stages': {name: getattr(self, name)() for name in names},
    }

  def dataset(self) -> Spec:
    where = {'data_dir': self.given.get('data_dir', '')}
    if self.data == 'cifar10':
      return {'name': 'tfds', 'builder': 'cifar10', 'by_class': False, **where}
    if self.data == 'ffhq64':
      path = self.given.get('folder', 'ffhq')
      return {'name': 'folder', 'path': path, 'size': 64}
    made = {'builder': 'imagenet2012', 'size': 64, 'resize': 'adm'}
    return {'name': 'tfds', **made, **where}

  def flow(self) -> Spec:
    """The 1-flow."""
    return learning(self.fat, FLOW_STEPS)

  def pairs(self) -> Spec:
    """Noise, and the samples that RK45 draws from it with the 1-flow."""
    return self.pairs_of('stage:flow')

  def reflow(self) -> Spec:
    """The 2-flow, from the weights of the 1-flow."""
    more = {'pairs': 'stage:pairs', **finetuned('stage:flow')}
    return learning(self.fat, REFLOW_STEPS, 'paired', **more)

  def annealed(self) -> Spec:
    """A slim 2-flow, from scratch, by annealed reflow."""
    beta = {'name': 'linear', 'warmup_steps': WARM_UP}
    coupling = {'name': 'annealed', 'beta': beta}
    return learning(self.slim, REFLOW_STEPS, coupling, pairs='stage:pairs')

  def slim_pairs(self) -> Spec:
    """The same with the slim 2-flow."""
    return self.pairs_of('stage:annealed')

  def distil(self) -> Spec:
    """One step, by distillation with flow guidance, and LPIPS if given."""
    lpips = self.given.get('lpips')
    return {
      'network': self.slim,
      **finetuned('stage:annealed'),
      'frozen': {
        'teacher': 'stage:annealed',
        **({'perceptual': lpips} if lpips else {}),
      },
      'pairs': 'stage:slim_pairs',
      'objective': {
        'name': 'distillation',
        'distance': ('lpips',) if lpips else ('l2',),
      },
      'train': {'steps': ONE_STEP_STEPS},
    }

  def pairs_of(self, teacher: str) -> Spec:
    count = PAIRS.get(self.data, 1_000_000)
    return {'job': 'pairs', 'teacher': teacher, 'count': count}


def network(size: str) -> Spec:
  """The network of a size."""
  name, nf, res_blocks, ch_mult = SIZES[size]
  return {
    'name': name,
    'nf': nf,
    'res_blocks': res_blocks,
    'ch_mult': ch_mult,
    'attention': ATTENTION[name],
  }


def learning(
  network: Spec, steps: int, coupling: str | Spec = 'independent', **more: Any
) -> Spec:
  """A rectified flow, whose loss is a mean over an example."""
  objective = {
    'name': 'rectified_flow',
    'coupling': coupling,
    'reduction': 'mean',
  }
  train = {'steps': steps}
  return {'network': network, 'objective': objective, 'train': train, **more}


def finetuned(source: str) -> Spec:
  """A start from the raw weights of a stage, without a warm-up of the rate."""
  return {
    'init_from': {'source': source, 'weights': 'params'},
    'optim': {'schedule': {'warmup': 0}},
  }
